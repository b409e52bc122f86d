// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package backend

import (
	"context"
	"math"
	"os"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/hashicorp/vault/sdk/framework"
	"github.com/hashicorp/vault/sdk/logical"
)

const (
	maxNameBytes = 256
	maxTextBytes = 512 // display names, reasons, keys of requests

	// maxExactNumber is 2^53: Vault passes numbers to plugins as float64, which
	// holds integers below it exactly.
	maxExactNumber = 1 << 53
)

var (
	uuidPattern = regexp.MustCompile(`^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$`)
	namePattern = regexp.MustCompile(`^[A-Za-z0-9._@:-]+(/[A-Za-z0-9._@:-]+)*$`)
)

// handler is an operation that reports errors as the engine does.
type handler func(context.Context, *logical.Request, *framework.FieldData) (*logical.Response, error)

// on makes an operation of a path, with its errors turned into answers. The name,
// a verb and mostly what it is done to, is the operation's in OpenAPI.
func (b *backend) on(h handler, name, summary string, responses map[int][]framework.Response) *framework.PathOperation {
	verb, object, _ := strings.Cut(name, " ")
	return &framework.PathOperation{
		DisplayAttrs: &framework.DisplayAttributes{OperationPrefix: "dek", OperationVerb: verb, OperationSuffix: object},
		Callback: func(ctx context.Context, req *logical.Request, d *framework.FieldData) (*logical.Response, error) {
			growStack()
			var resp *logical.Response
			err := b.checkCaller(req)
			if err == nil {
				resp, err = h(ctx, req, d)
			}
			if err == nil {
				return resp, nil
			}
			resp, err = answer(err)
			if ctx.Err() != nil {
				b.Logger().Debug("request given up by its caller", "operation", req.Operation, "request_id", req.ID)
			} else if _, told := err.(logical.HTTPCodedError); !told { //nolint:errorlint // answer returns it bare
				b.Logger().Error("request failed", "operation", req.Operation, "request_id", req.ID, "error", err)
			}
			return resp, err
		},
		Summary:                     summary,
		Responses:                   responses,
		ForwardPerformanceStandby:   true,
		ForwardPerformanceSecondary: true,
	}
}

// growStack makes the goroutine's stack as large as most requests need it: in
// steps on the way it would be copied three times, the last with some fifty frames
// on it. That took a twelfth of the processor time of a write.
//
//go:noinline
func growStack() byte {
	var frame [16 << 10]byte
	return frame[len(os.Args)%len(frame)] // or the compiler leaves the frame out
}

// tenantID returns the tenant that the path names, if it is a UUID in lower
// case: Vault's policies tell upper and lower case apart.
func tenantID(d *framework.FieldData) (string, error) {
	id, _ := d.Get("tenant_id").(string)
	if !uuidPattern.MatchString(id) {
		return "", invalid("tenant_id must be a UUID in lower case, such as 3fa85f64-5717-4562-b3fc-2c963f66afa6")
	}
	return id, nil
}

// checkName checks an item's name.
func checkName(name string) error {
	if name == "" || len(name) > maxNameBytes || !namePattern.MatchString(name) {
		return invalid("name must be 1 to %d characters of A-Z a-z 0-9 . _ @ : - with / between parts", maxNameBytes)
	}
	for part := range strings.SplitSeq(name, "/") {
		if part == "." || part == ".." {
			return invalid(`name must not have a part "." or ".."`)
		}
	}
	return nil
}

// textField returns a text of at most maxTextBytes, of UTF-8 without control
// characters, and whether the request names it.
func textField(d *framework.FieldData, field string) (text string, named bool, err error) {
	raw, named := d.Raw[field]
	if !named || raw == nil {
		return "", false, nil
	}
	text, ok := raw.(string)
	if !ok {
		return "", false, invalid("%s must be a string", field)
	}
	if len(text) > maxTextBytes {
		return "", false, invalid("%s must have at most %d bytes", field, maxTextBytes)
	}
	if strings.ContainsFunc(text, func(r rune) bool { return r < ' ' || r == 0x7f || r == '\uFFFD' }) {
		return "", false, invalid("%s must not have control characters, nor bytes that are not UTF-8", field)
	}
	return text, true, nil
}

// intField returns a whole number, and whether the request names it. In a query
// it comes as text, in a body as a number.
func intField(d *framework.FieldData, field string) (n int, named bool, err error) {
	raw, named := d.Raw[field]
	if !named || raw == nil {
		return 0, false, nil
	}
	n, ok := wholeNumber(raw)
	if !ok {
		return 0, false, invalid("%s must be a whole number", field)
	}
	return n, true, nil
}

func wholeNumber(raw any) (int, bool) {
	switch v := raw.(type) {
	case int:
		return v, true
	case int64:
		return int(v), true
	case float64:
		if v != math.Trunc(v) || math.Abs(v) >= maxExactNumber {
			return 0, false
		}
		return int(v), true
	case interface{ Int64() (int64, error) }: // json.Number
		n, err := v.Int64()
		return int(n), err == nil
	case string:
		n, err := strconv.Atoi(v)
		return n, err == nil
	}
	return 0, false
}

// boolField returns a yes or no, and whether the request names it. In a query, and
// from the command line, it comes as text. The framework would take any number
// but 0 for yes, and an empty text for no.
func boolField(d *framework.FieldData, field string) (value, named bool, err error) {
	raw, named := d.Raw[field]
	if !named || raw == nil {
		return false, false, nil
	}
	value, err = parseBool(field, raw)
	return value, err == nil, err
}

func parseBool(field string, raw any) (bool, error) {
	switch v := raw.(type) {
	case bool:
		return v, nil
	case string:
		if value, err := strconv.ParseBool(v); err == nil {
			return value, nil
		}
	}
	return false, invalid("%s must be true or false", field)
}

// pagination is the part of a list that a request asks for.
type pagination struct {
	after string
	limit int // 0: all
}

func pageField(d *framework.FieldData) (p pagination, err error) {
	if p.after, _, err = textField(d, "after"); err != nil {
		return pagination{}, err
	}
	limit, named, err := intField(d, "limit")
	if err != nil {
		return pagination{}, err
	}
	if named && limit < 1 {
		return pagination{}, invalid("limit must be at least 1")
	}
	p.limit = limit
	return p, nil
}

// first returns at most limit of the keys.
func (p pagination) first(keys []string) []string {
	if p.limit > 0 && len(keys) > p.limit {
		return keys[:p.limit]
	}
	return keys
}

// ofSorted returns the part of a sorted list of keys.
func (p pagination) ofSorted(keys []string) []string {
	i := 0
	for p.after != "" && i < len(keys) && keys[i] <= p.after {
		i++
	}
	return p.first(keys[i:])
}

// timeValue is a time as responses have it, null for one that is not set.
func timeValue(t time.Time) any {
	if t.IsZero() {
		return nil
	}
	return t.UTC().Format(time.RFC3339Nano)
}

// Fields that several paths have.
var (
	tenantIDField = &framework.FieldSchema{
		Type:        framework.TypeString,
		Description: "The tenant: a UUID in lower case.",
	}
	kindField = &framework.FieldSchema{
		Type:        framework.TypeString,
		Description: "The kind of item: credentials, apiKeys or secrets.",
	}
	afterField = &framework.FieldSchema{
		Type:        framework.TypeString,
		Query:       true,
		Description: "List what follows this key: the last one of the part before.",
	}
	limitField = &framework.FieldSchema{
		Type:        framework.TypeInt,
		Query:       true,
		Description: "List at most so many keys. Without it, all.",
	}
)

const (
	tenantPattern = `tenants/(?P<tenant_id>[^/]+)`
	kindPattern   = `(?P<kind>credentials|apiKeys|secrets)`
)

// ok describes a successful answer.
func ok(description string, fields map[string]*framework.FieldSchema) map[int][]framework.Response {
	return map[int][]framework.Response{200: {{Description: description, Fields: fields}}}
}

// listed describes the answer to a list.
var listed = ok("The keys.", map[string]*framework.FieldSchema{
	"keys": {Type: framework.TypeStringSlice, Description: "The keys.", Required: true},
})

// described is a field of an answer.
func described(t framework.FieldType, description string) *framework.FieldSchema {
	return &framework.FieldSchema{Type: t, Description: description, Required: true}
}
