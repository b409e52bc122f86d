// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package keyring

import (
	"encoding/base64"
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
)

// ciphertextPrefix begins every ciphertext that leaves the engine:
//
//	dek:v<version>:<base64 of what the version's external key sealed>
const ciphertextPrefix = "dek:v"

// What the functions that read texts from outside report.
var (
	// ErrCiphertext reports a text that is no ciphertext of this engine.
	ErrCiphertext = errors.New("ciphertext is malformed")
	// ErrVersion reports a text that is no version number.
	ErrVersion = errors.New("version must be a whole number from 1, in digits, without leading zeros")
	// ErrBase64 reports a text that is not base64 as this engine reads it.
	ErrBase64 = errors.New("not standard base64, padded, without line breaks")
	// ErrBase64Lines reports a text that is not base64 even if its line breaks are
	// passed over.
	ErrBase64Lines = errors.New("not standard base64, padded")
)

// strict refuses what Go's decoder else passes over: bits behind the last byte.
var strict = base64.StdEncoding.Strict()

// Ciphertext is a parsed text that the engine sealed for a caller.
type Ciphertext struct {
	Version int    // of the tenant's DEK
	Sealed  []byte // nonce, encrypted text and tag, as its key type has them
}

// ParseCiphertext reads a ciphertext. There is one text for each ciphertext:
// what parses is what String returns. It fails with [ErrCiphertext].
func ParseCiphertext(s string) (Ciphertext, error) {
	version, encoded, err := splitVersion(s)
	if err != nil {
		return Ciphertext{}, err
	}
	sealed, err := DecodeBase64(encoded)
	if err != nil {
		return Ciphertext{}, fmt.Errorf("%w: what follows the version is %w", ErrCiphertext, err)
	}
	return Ciphertext{Version: version, Sealed: sealed}, nil
}

// splitVersion reads the version that every text begins with.
func splitVersion(s string) (version int, rest string, err error) {
	rest, prefixed := strings.CutPrefix(s, ciphertextPrefix)
	number, rest, parted := strings.Cut(rest, ":")
	if !prefixed || !parted {
		return 0, "", fmt.Errorf("%w: it must begin with %q, a version and a colon", ErrCiphertext, ciphertextPrefix)
	}
	if version, err = ParseVersion(number); err != nil {
		return 0, "", fmt.Errorf("%w: its %w", ErrCiphertext, err)
	}
	return version, rest, nil
}

// String is the reverse of ParseCiphertext.
func (c Ciphertext) String() string {
	return versionPrefix(c.Version) + base64.StdEncoding.EncodeToString(c.Sealed)
}

func versionPrefix(version int) string { return ciphertextPrefix + strconv.Itoa(version) + ":" }

// ParseVersion reads the number of a version, as paths and ciphertexts have it.
// It fails with [ErrVersion].
func ParseVersion(s string) (int, error) {
	if s == "" || s[0] == '0' || strings.ContainsFunc(s, func(r rune) bool { return r < '0' || r > '9' }) {
		return 0, ErrVersion
	}
	n, err := strconv.ParseInt(s, 10, 64)
	if err != nil || n > math.MaxInt32 {
		return 0, ErrVersion
	}
	return int(n), nil
}

// DecodeBase64 reads standard base64 with padding. Unlike Go's decoder it does
// not pass over line breaks: there is one text for each value. It fails with
// [ErrBase64], which quotes nothing.
func DecodeBase64(s string) ([]byte, error) {
	if strings.ContainsAny(s, "\r\n") {
		return nil, ErrBase64
	}
	b, err := strict.DecodeString(s)
	if err != nil {
		return nil, ErrBase64
	}
	return b, nil
}

// DecodeBase64Lines is DecodeBase64 for a value that may have several spellings: it
// ignores line breaks, which base64 and openssl write. It fails with [ErrBase64Lines].
func DecodeBase64Lines(s string) ([]byte, error) {
	b, err := strict.DecodeString(s)
	if err != nil {
		return nil, ErrBase64Lines
	}
	return b, nil
}

// CiphertextAD binds a ciphertext to its tenant and to the key that sealed it,
// and to what the caller says belongs to it. Each part is preceded by its
// length, so that no caller's bytes can pass for another part.
func CiphertextAD(tenant, incarnation, keyID string, callers []byte) []byte {
	return AssociatedData("vault-plugin-dek/ciphertext/v1", tenant, incarnation, keyID, string(callers))
}
