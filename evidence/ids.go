// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package evidence

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
)

// SaltSize is the number of random bytes that hide a reason's text.
const SaltSize = 32

// ErrReasonTooLong reports a reason of more than [MaxReason] bytes.
var ErrReasonTooLong = fmt.Errorf("reason has more than %d bytes", MaxReason)

var errSalt = errors.New("the salt of a reason has 32 bytes")

const eventIDLabel = "vault-plugin-dek/evidence/event-id/v1"

// EventID derives the ID of an event from what decided it, such as the mount, the
// incarnation, the type and the rotation: the same decision has the same ID.
func EventID(decided ...string) string {
	h := sha256.New()
	for _, part := range append([]string{eventIDLabel}, decided...) {
		_ = binary.Write(h, binary.BigEndian, uint64(len(part))) // a hash never fails
		h.Write([]byte(part))
	}
	return "ev-" + hex.EncodeToString(h.Sum(nil)[:16])
}

// HashReason returns what an event says of a reason: the SHA-256, in hexadecimal, of
// the salt and the text, empty for an empty text. Who keeps neither salt nor text
// cannot find the text by trying.
func HashReason(salt []byte, text string) (string, error) {
	switch {
	case text == "":
		return "", nil
	case len(text) > MaxReason:
		return "", ErrReasonTooLong
	case len(salt) != SaltSize:
		return "", errSalt
	}
	sum := sha256.Sum256(append(append(make([]byte, 0, SaltSize+len(text)), salt...), text...))
	return hex.EncodeToString(sum[:]), nil
}
