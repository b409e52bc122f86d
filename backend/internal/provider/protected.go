// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package provider

import (
	"crypto/sha256"
	"crypto/subtle"
	"fmt"

	"github.com/fxamacker/cbor/v2"

	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/keyring"
)

// Protected is the entry of a KEK under a provider. That of a KEK in Vault's storage is the
// key itself, which is shorter than any of these.
type Protected struct {
	Format     uint8  `cbor:"1,keyasint"` // 2
	Provider   string `cbor:"2,keyasint"`
	Wrapped    []byte `cbor:"3,keyasint"`
	Commitment []byte `cbor:"4,keyasint"`
	Tenant     string `cbor:"5,keyasint,omitempty"` // whose own it is; the storage key has the incarnation
}

const protectedFormat = 2

// Protect returns the entry of a KEK that a provider of that name has wrapped for a place.
func Protect(p Place, name string, wrapped, key []byte) ([]byte, error) {
	entry, err := cbor.Marshal(Protected{protectedFormat, name, wrapped, commitmentOf(p.KEKID, key), p.Tenant})
	if err != nil {
		return nil, fmt.Errorf("encoding a KEK: %w", err)
	}
	return entry, nil
}

// DecodeProtected decodes an entry, nil if it is malformed.
func DecodeProtected(entry []byte) *Protected {
	p := new(Protected)
	if err := cbor.Unmarshal(entry, p); err != nil || p.Format != protectedFormat || p.Provider == "" {
		return nil
	}
	return p
}

// commitmentOf tells a KEK from every other, and nothing about it: a KEK is random and as
// long as the hash.
func commitmentOf(kekID string, key []byte) []byte {
	sum := sha256.Sum256(append(keyring.AssociatedData("vault-plugin-dek/kek-commitment/v1", kekID), key...))
	return sum[:]
}

// Is returns what tells whether a key is the KEK of that ID.
func (p *Protected) Is(kekID string) func(key []byte) bool {
	return func(key []byte) bool {
		return subtle.ConstantTimeCompare(commitmentOf(kekID, key), p.Commitment) == 1
	}
}
