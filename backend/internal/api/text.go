// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package api

import (
	"strings"
	"unicode/utf8"
)

// entryLists are the fields whose entries succeed or fail each by itself: their
// handlers check the text of each.
var entryLists = map[string]bool{"items": true, "batch_input": true}

// CheckText refuses fields whose text is not UTF-8, at any depth, names of members
// included. JSON's decoders replace what is not UTF-8 by U+FFFD before a request comes
// here, so it would be stored changed. A U+FFFD that the caller has sent looks the
// same, and is refused too.
func CheckText(fields map[string]any) error {
	bad, found := "", false
	for name, value := range fields {
		switch {
		case !isText(name):
			return Invalid("the name of a field has bytes that are not UTF-8")
		case !entryLists[name] && !hasText(value) && (!found || name < bad):
			bad, found = name, true
		}
	}
	if !found {
		return nil
	}
	return Invalid("%s must not have bytes that are not UTF-8, nor U+FFFD, as which they arrive", bad)
}

// hasText reports whether all text in a value is UTF-8.
func hasText(value any) bool {
	switch v := value.(type) {
	case string:
		return isText(v)
	case map[string]any:
		for name, member := range v {
			if !isText(name) || !hasText(member) {
				return false
			}
		}
	case []any:
		for _, element := range v {
			if !hasText(element) {
				return false
			}
		}
	}
	return true
}

// isText reports whether a text is UTF-8 without U+FFFD. Its two passes are faster
// together than one that looks for utf8.RuneError.
func isText(s string) bool {
	const begins = 0xEF // in UTF-8
	return utf8.ValidString(s) && (strings.IndexByte(s, begins) < 0 || !strings.Contains(s, "\uFFFD"))
}

// What a value takes in memory beside its text, roughly.
const (
	valueBytes  = 16
	memberBytes = 48
)

// sizeOf estimates the bytes of memory that a decoded value takes.
func sizeOf(value any) int {
	switch v := value.(type) {
	case string:
		return valueBytes + len(v)
	case map[string]any:
		n := memberBytes
		for name, member := range v {
			n += memberBytes + len(name) + sizeOf(member)
		}
		return n
	case []any:
		n := valueBytes
		for _, element := range v {
			n += valueBytes + sizeOf(element)
		}
		return n
	}
	return valueBytes
}
