// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package proxy

import (
	"bufio"
	"encoding/json"
	"errors"
	"io"
	"mime"
	"net/http"
	"regexp"
	"strings"
)

var (
	uuidForm     = regexp.MustCompile(`^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$`)
	rotationForm = regexp.MustCompile(`^rot-[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$`)
)

// parseUUID lower-cases a UUID in its 8-4-4-4-12 form: Vault's policies are
// case-sensitive, so one tenant must have one spelling.
func parseUUID(s string) (string, bool) {
	s = strings.ToLower(s)
	return s, uuidForm.MatchString(s)
}

// tenantHeader reads x-tenantid.
func tenantHeader(h http.Header) (string, *problem) {
	values := h.Values("x-tenantid")
	if len(values) != 1 {
		return "", invalid("the x-tenantid header is required, once")
	}
	id, ok := parseUUID(values[0])
	if !ok {
		return "", invalid("the x-tenantid header must be a UUID such as 3fa85f64-5717-4562-b3fc-2c963f66afa6")
	}
	return id, nil
}

// requireJSON refuses a body that is not declared to be JSON.
func requireJSON(h http.Header) *problem {
	values := h.Values("Content-Type")
	if len(values) == 1 {
		media, _, err := mime.ParseMediaType(values[0])
		if err == nil && media == "application/json" {
			return nil
		}
	}
	return invalid("the content-type header must be application/json")
}

const byteOrderMark = "\ufeff"

// readObject reads a body that is exactly one JSON object, by exact field name:
// encoding/json would take "TENANTID" for "tenantId".
func readObject(r *http.Request) (map[string]json.RawMessage, *problem) {
	in := bufio.NewReader(r.Body)
	if start, err := in.Peek(len(byteOrderMark)); err == nil && string(start) == byteOrderMark {
		return nil, invalid("the body must not begin with a byte order mark (RFC 8259)")
	}
	dec := json.NewDecoder(in)
	var object map[string]json.RawMessage
	// The decoder's own message may quote the body.
	if err := dec.Decode(&object); err != nil || object == nil {
		return nil, invalid("the body must be a JSON object")
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return nil, invalid("the body must be one JSON object and nothing after it")
	}
	return object, nil
}

// stringField reads a field that must be a string and may not be empty.
func stringField(object map[string]json.RawMessage, name string) (string, *problem) {
	raw, ok := object[name]
	if !ok {
		return "", invalid("%s is required", name)
	}
	var value *string
	if err := json.Unmarshal(raw, &value); err != nil || value == nil {
		return "", invalid("%s must be a string", name)
	}
	if *value == "" {
		return "", invalid("%s must not be empty", name)
	}
	return *value, nil
}
