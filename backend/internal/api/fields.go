// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package api

import (
	"context"
	"math"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/hashicorp/vault/sdk/framework"

	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/actor"
)

// The bounds of what requests carry.
const (
	MaxNameBytes   = 256
	MaxTextBytes   = 512 // display names, keys of requests
	MaxReasonBytes = 1024

	// MaxExactNumber is 2^53: Vault passes numbers to plugins as float64, which
	// holds integers below it exactly.
	MaxExactNumber = 1 << 53
)

var (
	// UUIDPattern matches a UUID in lower case.
	UUIDPattern = regexp.MustCompile(`^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$`)
	namePattern = regexp.MustCompile(`^[A-Za-z0-9._@:-]+(/[A-Za-z0-9._@:-]+)*$`)
)

// TenantID returns the tenant that the path names, if it is a UUID in lower
// case: Vault's policies tell upper and lower case apart.
func TenantID(d *framework.FieldData) (string, error) {
	id, _ := d.Get("tenant_id").(string)
	if !UUIDPattern.MatchString(id) {
		return "", Invalid("tenant_id must be a UUID in lower case, such as 3fa85f64-5717-4562-b3fc-2c963f66afa6")
	}
	return id, nil
}

// CheckName checks an item's name.
func CheckName(name string) error {
	if name == "" || len(name) > MaxNameBytes || !namePattern.MatchString(name) {
		return Invalid("name must be 1 to %d characters of A-Z a-z 0-9 . _ @ : - with / between parts", MaxNameBytes)
	}
	for part := range strings.SplitSeq(name, "/") {
		if part == "." || part == ".." {
			return Invalid(`name must not have a part "." or ".."`)
		}
	}
	return nil
}

// Reason returns what a request says of why it is made, in at most MaxReasonBytes.
func Reason(d *framework.FieldData) (string, error) {
	text, _, err := textOf(d, "reason", MaxReasonBytes)
	return text, err
}

// TextField returns a text of at most MaxTextBytes, of UTF-8 without control
// characters, and whether the request names it.
func TextField(d *framework.FieldData, field string) (text string, named bool, err error) {
	return textOf(d, field, MaxTextBytes)
}

func textOf(d *framework.FieldData, field string, most int) (text string, named bool, err error) {
	raw, named := d.Raw[field]
	if !named || raw == nil {
		return "", false, nil
	}
	text, ok := raw.(string)
	if !ok {
		return "", false, Invalid("%s must be a string", field)
	}
	if len(text) > most {
		return "", false, Invalid("%s must have at most %d bytes", field, most)
	}
	if strings.ContainsFunc(text, func(r rune) bool { return r < ' ' || r == 0x7f || r == '\uFFFD' }) {
		return "", false, Invalid("%s must not have control characters, nor bytes that are not UTF-8", field)
	}
	return text, true, nil
}

// IntField returns a whole number, and whether the request names it. In a query
// it comes as text, in a body as a number.
func IntField(d *framework.FieldData, field string) (n int, named bool, err error) {
	raw, named := d.Raw[field]
	if !named || raw == nil {
		return 0, false, nil
	}
	n, ok := WholeNumber(raw)
	if !ok {
		return 0, false, Invalid("%s must be a whole number", field)
	}
	return n, true, nil
}

// WholeNumber returns a whole number as JSON, a query or the command line brings it, and
// whether it is one.
func WholeNumber(raw any) (int, bool) {
	switch v := raw.(type) {
	case int:
		return v, true
	case int64:
		return int(v), true
	case float64:
		if v != math.Trunc(v) || math.Abs(v) >= MaxExactNumber {
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

// BoolField returns a yes or no, and whether the request names it. In a query, and
// from the command line, it comes as text. The framework would take any number
// but 0 for yes, and an empty text for no.
func BoolField(d *framework.FieldData, field string) (value, named bool, err error) {
	raw, named := d.Raw[field]
	if !named || raw == nil {
		return false, false, nil
	}
	value, err = ParseBool(field, raw)
	return value, err == nil, err
}

// ParseBool returns the yes or no of a field, or the error that names it.
func ParseBool(field string, raw any) (bool, error) {
	switch v := raw.(type) {
	case bool:
		return v, nil
	case string:
		if value, err := strconv.ParseBool(v); err == nil {
			return value, nil
		}
	}
	return false, Invalid("%s must be true or false", field)
}

// Pagination is the part of a list that a request asks for.
type Pagination struct {
	After string
	Limit int // 0: all
}

// PageField returns the part of a list that the fields after and limit ask for.
func PageField(d *framework.FieldData) (p Pagination, err error) {
	if p.After, _, err = TextField(d, "after"); err != nil {
		return Pagination{}, err
	}
	limit, named, err := IntField(d, "limit")
	if err != nil {
		return Pagination{}, err
	}
	if named && limit < 1 {
		return Pagination{}, Invalid("limit must be at least 1")
	}
	p.Limit = limit
	return p, nil
}

// First returns at most limit of the keys.
func (p Pagination) First(keys []string) []string {
	if p.Limit > 0 && len(keys) > p.Limit {
		return keys[:p.Limit]
	}
	return keys
}

// OfSorted returns the part of a sorted list of keys.
func (p Pagination) OfSorted(keys []string) []string {
	i := 0
	for p.After != "" && i < len(keys) && keys[i] <= p.After {
		i++
	}
	return p.First(keys[i:])
}

// Time is a time as responses have it, null for one that is not set.
func Time(t time.Time) any {
	if t.IsZero() {
		return nil
	}
	return t.UTC().Format(time.RFC3339Nano)
}

// TextOrNull is a text as responses have it, null for an empty one.
func TextOrNull(text string) any {
	if text == "" {
		return nil
	}
	return text
}

// Person is who asked for something, as answers have it, with the name and the email that
// are known at this time.
func (o *Operations) Person(ctx context.Context, a actor.Actor) map[string]any {
	return person(o.Named(ctx, a))
}

// PersonID is who asked for something, by the ID alone.
func PersonID(id string) map[string]any { return person(actor.Actor{ID: id}) }

func person(a actor.Actor) map[string]any {
	return map[string]any{"id": a.ID, "name": a.Name, "email": a.Email}
}

// Fields that several paths have.
var (
	TenantIDField = &framework.FieldSchema{
		Type:        framework.TypeString,
		Description: "The tenant: a UUID in lower case.",
	}
	KindField = &framework.FieldSchema{
		Type:        framework.TypeString,
		Description: "The kind of item: credentials, apiKeys or secrets.",
	}
	AfterField = &framework.FieldSchema{
		Type:        framework.TypeString,
		Query:       true,
		Description: "List what follows this key: the last one of the part before.",
	}
	LimitField = &framework.FieldSchema{
		Type:        framework.TypeInt,
		Query:       true,
		Description: "List at most so many keys. Without it, all.",
	}
)

// PartialField and ItemsListed are of a list of items.
var (
	PartialField = &framework.FieldSchema{
		Type:        framework.TypeBool,
		Query:       true,
		Description: "List what can be read, and say in unreadable what cannot. Default: false.",
	}
	ItemsListed = OK("The keys.", map[string]*framework.FieldSchema{
		"keys": {Type: framework.TypeStringSlice, Description: "The keys. Null, with partial, if none could be read."},
		"unreadable": {
			Type:        framework.TypeSlice,
			Description: "With partial: the pages that could not be read, each with its place and the reason.",
		},
	})
)

// Patterns of parts of paths.
const (
	TenantPattern = `tenants/(?P<tenant_id>[^/]+)`
	KindPattern   = `(?P<kind>credentials|apiKeys|secrets)`
)

// OK describes a successful answer.
func OK(description string, fields map[string]*framework.FieldSchema) map[int][]framework.Response {
	return map[int][]framework.Response{200: {{Description: description, Fields: fields}}}
}

// Listed describes the answer to a list.
var Listed = OK("The keys.", map[string]*framework.FieldSchema{
	"keys": {Type: framework.TypeStringSlice, Description: "The keys.", Required: true},
})

// ListedWith describes the answer to a list that says more of each key.
func ListedWith(info string) map[int][]framework.Response {
	return OK("The keys.", map[string]*framework.FieldSchema{
		"keys":     {Type: framework.TypeStringSlice, Description: "The keys.", Required: true},
		"key_info": {Type: framework.TypeMap, Description: info},
	})
}

// Described is a field of an answer.
func Described(t framework.FieldType, description string) *framework.FieldSchema {
	return &framework.FieldSchema{Type: t, Description: description, Required: true}
}
