// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package main

import (
	"encoding/json"
	"fmt"
	"strings"
)

// place is a record's key: the row's primary key as text, and the column.
type place struct {
	Row    []string `json:"row"`
	Column string   `json:"column"`
}

// What String puts between the parts of a place.
const (
	beforeRow    = `{"row":[`
	beforeColumn = `],"column":`
	behindColumn = `}`
)

// String is the place as encoding/json writes it. A sweep writes and reads one for each
// row, so that what needs no escaping does without that package.
func (p place) String() string {
	size := len(beforeRow) + len(beforeColumn) + len(behindColumn) + len(p.Column) + 2
	for _, part := range p.Row {
		size += len(part) + len(`"",`)
	}
	out := append(make([]byte, 0, size), beforeRow...)
	for i, part := range p.Row {
		if i > 0 {
			out = append(out, ',')
		}
		out = appendQuoted(out, part)
	}
	out = append(out, beforeColumn...)
	out = appendQuoted(out, p.Column)
	return string(append(out, behindColumn...))
}

func appendQuoted(out []byte, part string) []byte {
	if isPlain(part) {
		out = append(out, '"')
		out = append(out, part...)
		return append(out, '"')
	}
	text, _ := json.Marshal(part) // strings can always be encoded
	return append(out, text...)
}

// isPlain reports whether encoding/json writes a string as it is.
func isPlain(s string) bool {
	for _, c := range []byte(s) {
		if c < ' ' || c > '~' || c == '"' || c == '\\' || c == '<' || c == '>' || c == '&' {
			return false
		}
	}
	return true
}

func parsePlace(key string) (p place, err error) {
	if p, plain := parsePlain(key); plain {
		return p, nil
	}
	if err := json.Unmarshal([]byte(key), &p); err != nil {
		return p, fmt.Errorf("a place in the table must be a row and a column: %w", err)
	}
	return p, nil
}

// parsePlain reads a place without escapes.
func parsePlain(key string) (p place, plain bool) {
	rest, begins := strings.CutPrefix(key, beforeRow+`"`)
	row, column, parted := strings.Cut(rest, `"`+beforeColumn+`"`)
	column, ends := strings.CutSuffix(column, `"`+behindColumn)
	if !begins || !parted || !ends || strings.IndexByte(key, '\\') >= 0 || strings.IndexByte(column, '"') >= 0 {
		return p, false
	}
	// Without escapes a quotation mark is the end of a part.
	if p.Column = column; strings.IndexByte(row, '"') < 0 {
		p.Row = []string{row}
		return p, true
	}
	p.Row = strings.Split(row, `","`)
	for _, part := range p.Row {
		if strings.IndexByte(part, '"') >= 0 {
			return p, false
		}
	}
	return p, true
}
