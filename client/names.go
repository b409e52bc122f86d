// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package client

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"time"
)

const uuid = `[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}`

var (
	uuidPattern     = regexp.MustCompile(`^` + uuid + `$`)
	rotationPattern = regexp.MustCompile(`^rot-` + uuid + `$`)
	namePattern     = regexp.MustCompile(`^[A-Za-z0-9._@:/-]{1,256}$`)
)

// Kind is a kind of items.
type Kind string

// The kinds that the engine has.
const (
	Credentials Kind = "credentials"
	APIKeys     Kind = "apiKeys"
	Secrets     Kind = "secrets"
)

func (k Kind) check() error {
	if k != Credentials && k != APIKeys && k != Secrets {
		return ErrName
	}
	return nil
}

// checkItem refuses what would be cleaned into the path of another item.
func checkItem(kind Kind, name string) error {
	if err := kind.check(); err != nil {
		return err
	}
	if !namePattern.MatchString(name) {
		return ErrName
	}
	for part := range strings.SplitSeq(name, "/") {
		if part == "" || part == "." || part == ".." {
			return ErrName
		}
	}
	return nil
}

// Duration is a [time.Duration] as the engine has it: it answers seconds, and
// takes a duration string.
type Duration time.Duration

// MarshalJSON gives seconds, as the engine answers them, and a duration string for what is no
// whole number of them.
func (d Duration) MarshalJSON() ([]byte, error) {
	if whole := time.Duration(d).Truncate(time.Second); whole == time.Duration(d) {
		return strconv.AppendInt(nil, int64(whole/time.Second), 10), nil
	}
	return []byte(`"` + time.Duration(d).String() + `"`), nil
}

// UnmarshalJSON takes seconds, or a duration string.
func (d *Duration) UnmarshalJSON(text []byte) error {
	s := strings.Trim(string(text), `"`)
	if s == string(text) {
		s += "s"
	}
	parsed, err := time.ParseDuration(s)
	if err != nil {
		return fmt.Errorf("a duration must be seconds or a duration string: %w", err)
	}
	*d = Duration(parsed)
	return nil
}

// Page asks for a part of a list. The zero value asks for all of it.
type Page struct {
	After string // the last key of the part before
	Limit int    // how many at most
}
