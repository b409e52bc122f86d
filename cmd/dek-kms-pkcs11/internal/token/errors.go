// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package token

import (
	"errors"
	"fmt"
	"slices"

	"github.com/miekg/pkcs11"
)

var (
	// ErrDenied reports a token that refuses the PIN, or the use of the key.
	ErrDenied = errors.New("denied")
	// ErrNoKey reports that the token has no key of that label, or none of that key_id.
	ErrNoKey = errors.New("no such key")
	// ErrUnavailable reports a token that is out of reach, or whose answer says nothing
	// about the key.
	ErrUnavailable = errors.New("unavailable")
	// ErrInvalid reports a request that no token can answer.
	ErrInvalid = errors.New("invalid request")
)

// errLost reports a connection that has to be made anew.
var errLost = fmt.Errorf("%w: the token was lost", ErrUnavailable)

// refusedPIN are the answers that count towards locking a token.
var refusedPIN = []uint{pkcs11.CKR_PIN_INCORRECT, pkcs11.CKR_PIN_INVALID, pkcs11.CKR_PIN_LEN_RANGE}

// denials are the answers by which a token refuses, and that mean nothing else.
var denials = append([]uint{
	pkcs11.CKR_PIN_LOCKED, pkcs11.CKR_PIN_EXPIRED, pkcs11.CKR_USER_PIN_NOT_INITIALIZED,
	pkcs11.CKR_KEY_FUNCTION_NOT_PERMITTED,
}, refusedPIN...)

// losses are the answers after which a session is not used any more, whatever it says of
// itself.
var losses = []uint{
	pkcs11.CKR_CRYPTOKI_NOT_INITIALIZED, pkcs11.CKR_DEVICE_ERROR, pkcs11.CKR_DEVICE_REMOVED,
	pkcs11.CKR_SESSION_CLOSED, pkcs11.CKR_SESSION_HANDLE_INVALID, pkcs11.CKR_SLOT_ID_INVALID,
	pkcs11.CKR_TOKEN_NOT_PRESENT, pkcs11.CKR_TOKEN_NOT_RECOGNIZED, pkcs11.CKR_USER_NOT_LOGGED_IN,
}

// is reports whether err is one of the answers of a library.
func is(err error, answers ...uint) bool {
	var code pkcs11.Error
	return errors.As(err, &code) && slices.Contains(answers, uint(code))
}

// said turns the error of a call of the library into one of this package's.
func said(doing string, err error) error {
	switch {
	case is(err, denials...):
		return fmt.Errorf("%w: %s: %w", ErrDenied, doing, err)
	case is(err, pkcs11.CKR_ENCRYPTED_DATA_INVALID, pkcs11.CKR_ENCRYPTED_DATA_LEN_RANGE):
		return fmt.Errorf("%w: %s: %w", ErrInvalid, doing, err)
	case is(err, losses...):
		return fmt.Errorf("%w: %s: %w", errLost, doing, err)
	}
	return fmt.Errorf("%w: %s: %w", ErrUnavailable, doing, err)
}

func unavailable(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrUnavailable, fmt.Sprintf(format, args...))
}

func invalid(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrInvalid, fmt.Sprintf(format, args...))
}
