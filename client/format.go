// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package client

import (
	"encoding/base64"
	"encoding/binary"
	"strings"
)

// Labels of the associated data that bind each thing to its purpose.
const (
	dataKeyLabel  = "vault-plugin-dek/data-key/v1" // what datakey seals an envelope's key with
	envelopeLabel = "vault-plugin-dek/envelope/v1"
	fileKeyLabel  = "vault-plugin-dek/file-key/v1"
	streamLabel   = "vault-plugin-dek/stream/v1"
)

const (
	textPrefix   = "dek:v"
	envelopeMark = "e1."
	fileMark     = "s1."

	// maxVersion is the greatest number of a version.
	maxVersion = 1<<31 - 1
	// minSealed is the envelope of nothing.
	minSealed = nonceBytes + tagBytes
)

// strict refuses bits behind the last byte, so that each ciphertext has one text.
var strict = base64.StdEncoding.Strict()

// form tells the texts of the engine apart.
type form int

const (
	plainForm    form = iota // dek:v<version>:<base64>: what encrypt answers
	envelopeForm             // dek:v<version>:e1.<key>.<sealed>
)

// parsed is a text taken apart. Its parts are parts of the text.
type parsed struct {
	form    form
	version int
	key     string // of an envelope: dek:v<version>:<key>, as datakey answered it
	sealed  []byte // of an envelope
}

// parse reads a ciphertext or an envelope. It fails with [ErrMalformed].
func parse(text string) (parsed, error) {
	head, version, rest, err := cutVersion(text)
	if err != nil {
		return parsed{}, err
	}
	body, isEnvelope := strings.CutPrefix(rest, envelopeMark)
	if !isEnvelope {
		if _, err := decode64(rest); err != nil {
			return parsed{}, err
		}
		return parsed{form: plainForm, version: version}, nil
	}
	key, encoded, parted := strings.Cut(body, ".")
	if !parted {
		return parsed{}, ErrMalformed
	}
	if !is64(key) {
		return parsed{}, ErrMalformed
	}
	sealed, err := decode64(encoded)
	if err != nil || len(sealed) < minSealed {
		return parsed{}, ErrMalformed
	}
	return parsed{form: envelopeForm, version: version, key: head + key, sealed: sealed}, nil
}

// VersionOf is the version of the key that a ciphertext, an envelope or the first
// line of a file is of. It looks at the beginning only, and fails with
// [ErrMalformed].
func VersionOf(text string) (int, error) {
	_, version, _, err := cutVersion(text)
	return version, err
}

// cutVersion parts a text behind its dek:v<version>:, which is head.
func cutVersion(text string) (head string, version int, rest string, err error) {
	after, prefixed := strings.CutPrefix(text, textPrefix)
	number, rest, parted := strings.Cut(after, ":")
	if !prefixed || !parted || number == "" || number[0] == '0' || len(number) > 10 {
		return "", 0, "", ErrMalformed
	}
	for _, digit := range []byte(number) {
		if digit < '0' || digit > '9' {
			return "", 0, "", ErrMalformed
		}
		version = version*10 + int(digit-'0')
	}
	if version > maxVersion || rest == "" {
		return "", 0, "", ErrMalformed
	}
	return text[:len(text)-len(rest)], version, rest, nil
}

// decode64 reads standard base64 with padding, of at least one byte. Unlike Go's
// decoder it does not pass over line breaks.
func decode64(s string) ([]byte, error) {
	if s == "" || strings.IndexByte(s, '\n') >= 0 || strings.IndexByte(s, '\r') >= 0 {
		return nil, ErrMalformed
	}
	b, err := strict.DecodeString(s)
	if err != nil {
		return nil, ErrMalformed
	}
	return b, nil
}

// is64 reports whether decode64 would read s, without an allocation.
func is64(s string) bool {
	digits := strings.TrimSuffix(strings.TrimSuffix(s, "="), "=")
	if digits == "" || len(s)%4 != 0 {
		return false
	}
	var value byte
	for _, c := range []byte(digits) {
		switch {
		case c >= 'A' && c <= 'Z':
			value = c - 'A'
		case c >= 'a' && c <= 'z':
			value = c - 'a' + 26
		case c >= '0' && c <= '9':
			value = c - '0' + 52
		case c == '+':
			value = 62
		case c == '/':
			value = 63
		default:
			return false
		}
	}
	behind := 2 * (len(s) - len(digits)) // bits behind the last byte
	return value&(1<<behind-1) == 0
}

// adList encodes parts, each preceded by its length in four bytes, most significant
// first: so no part can pass for another.
func adList(parts ...string) []byte {
	var out []byte
	for _, part := range parts {
		out = appendPart(out, part)
	}
	return out
}

func appendPart[T string | []byte](out []byte, part T) []byte {
	out = binary.BigEndian.AppendUint32(out, uint32(len(part))) // #nosec G115 -- checkAD bounds what callers give
	return append(out, part...)
}
