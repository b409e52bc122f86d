// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package kms

import (
	"strconv"
	"strings"
)

func boolParameter(p map[string]string, name string) (bool, error) {
	if p[name] == "" {
		return false, nil
	}
	value, err := strconv.ParseBool(p[name])
	if err != nil {
		return false, invalid("%s must be true or false", name)
	}
	return value, nil
}

// required fails with [ErrInvalid] if one of the parameters is missing.
func required(p map[string]string, names ...string) error {
	for _, name := range names {
		if p[name] == "" {
			return invalid("%s is missing in parameters", name)
		}
	}
	return nil
}

// printable fails with [ErrInvalid] if one of the parameters has what a header of HTTP
// cannot have.
func printable(p map[string]string, names ...string) error {
	for _, name := range names {
		if strings.ContainsFunc(p[name], func(r rune) bool { return r <= ' ' || r > '~' }) {
			return invalid("%s must have printable ASCII characters only", name)
		}
	}
	return nil
}
