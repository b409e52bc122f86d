// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"slices"
	"strings"
)

var (
	errNoObject = errors.New("the line is no JSON object")
	errTwice    = errors.New("the line has a field twice")
	errNoText   = errors.New("the field is no string")
)

// span is where a value is in a line.
type span struct{ from, to int }

// replace puts a text, which needs no escaping, in the place of a value.
func (s span) replace(raw []byte, text string) []byte {
	return slices.Concat(raw[:s.from], []byte(`"`+text+`"`), raw[s.to:])
}

// object is a JSON object, and where its values are in the line.
type object struct {
	raw    []byte
	offset int // of raw in the line
	fields map[string]span
}

// parseLine parses a line, nil if it is blank.
func parseLine(raw []byte) (*object, error) {
	if len(bytes.TrimSpace(raw)) == 0 {
		return nil, nil //nolint:nilnil // a blank line is no object, and no failure
	}
	return parseObject(raw, 0)
}

// parseObject finds the values of an object, which has no other text beside it.
func parseObject(raw []byte, offset int) (*object, error) {
	d := json.NewDecoder(bytes.NewReader(raw))
	if start, err := d.Token(); err != nil || start != json.Delim('{') {
		return nil, errNoObject
	}
	o := &object{raw, offset, map[string]span{}}
	for d.More() {
		name, err := d.Token()
		if err != nil {
			return nil, errNoObject
		}
		var value json.RawMessage
		if err := d.Decode(&value); err != nil {
			return nil, errNoObject
		}
		field, _ := name.(string) // a name is always one
		if _, twice := o.fields[field]; twice {
			return nil, errTwice
		}
		end := int(d.InputOffset())
		o.fields[field] = span{offset + end - len(value), offset + end}
	}
	if _, err := d.Token(); err != nil {
		return nil, errNoObject
	}
	if len(bytes.TrimSpace(raw[d.InputOffset():])) > 0 {
		return nil, errNoObject
	}
	return o, nil
}

// text is the string of a field, empty if it is missing or null. A field of an
// object in the object is written with dots; one whose own name has dots is found
// first.
func (o *object) text(field string) (span, string, error) {
	at, has := o.fields[field]
	if !has {
		outer, inner, nested := strings.Cut(field, ".")
		if at, has = o.fields[outer]; !nested || !has {
			return span{}, "", nil
		}
		value := o.raw[at.from-o.offset : at.to-o.offset]
		if string(value) == "null" {
			return span{}, "", nil
		}
		within, err := parseObject(value, at.from)
		if err != nil {
			return span{}, "", err
		}
		return within.text(inner)
	}
	var text *string
	if err := json.Unmarshal(o.raw[at.from-o.offset:at.to-o.offset], &text); err != nil {
		return span{}, "", errNoText
	}
	if text == nil {
		return span{}, "", nil
	}
	return at, *text, nil
}
