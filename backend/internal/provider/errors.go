// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package provider

import (
	"errors"
	"fmt"
	"strings"
	"unicode"

	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/kms"
)

var (
	// ErrNotFound reports a provider that does not exist.
	ErrNotFound = errors.New("key provider not found")
	// ErrDenied reports a provider that refuses the key: it was disabled or destroyed, or
	// the permission to use it was withdrawn.
	ErrDenied = errors.New("denied")
	// ErrUnavailable reports a provider that is out of reach, or whose answer says
	// nothing about the key.
	ErrUnavailable = errors.New("unavailable")
	// ErrBusy reports that no place for another call was left. It says nothing about the
	// provider.
	ErrBusy = errors.New("busy")
	// ErrInvalid reports settings that no provider can have.
	ErrInvalid = kms.ErrInvalid
)

// maxWord bounds what is repeated of a provider's answer.
const maxWord = 300

// Error is the failure of a call to a provider, an [ErrDenied], [ErrUnavailable] or
// [ErrBusy].
type Error struct {
	Provider string
	Kind     error
	Word     string // what the provider said
}

func (e *Error) Error() string {
	return fmt.Sprintf("key provider %s: %s: %s", e.Provider, e.Kind, e.Word)
}

func (e *Error) Unwrap() error { return e.Kind }

// failure turns the error of a wrapper into an [Error].
func failure(name string, err error) *Error {
	var denied *kms.Refusal
	if errors.As(err, &denied) {
		return &Error{name, ErrDenied, word(denied.Word)}
	}
	return &Error{name, ErrUnavailable, word(err.Error())}
}

// word shortens what a provider says, and leaves out what would break a line of a log.
func word(text string) string {
	text = strings.Map(func(r rune) rune {
		if unicode.IsControl(r) || r == unicode.ReplacementChar {
			return ' '
		}
		return r
	}, strings.ToValidUTF8(text, " "))
	text = strings.Join(strings.Fields(text), " ")
	if runes := []rune(text); len(runes) > maxWord {
		text = string(runes[:maxWord]) + "…"
	}
	return text
}

// invalid reports a setting that breaks a rule.
func invalid(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrInvalid, fmt.Sprintf(format, args...))
}

// IsCallError reports whether err is an [Error].
func IsCallError(err error) bool {
	var failed *Error
	return errors.As(err, &failed)
}

// Rule returns the rule that settings break, and whether err is of such.
func Rule(err error) (string, bool) {
	if !errors.Is(err, ErrInvalid) {
		return "", false
	}
	return strings.TrimPrefix(err.Error(), ErrInvalid.Error()+": "), true
}
