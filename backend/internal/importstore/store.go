// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

// Package importstore keeps in a mount's storage the RSA keys under which owners of tenants
// wrap the keys that they import, and the record that names them:
//
//	import/current                      which wrapping keys there are
//	import/keys/<key_id>                the RSA keys                     (seal-wrapped)
//	import/wrapping_key                 the one made before they had IDs (seal-wrapped)
package importstore

import (
	"context"
	"fmt"
	"time"

	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/keyring"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/storage"
)

const (
	wrappingCurrent     = "import/current"
	wrappingPrefix      = "import/keys/"
	firstWrappingKeyKey = "import/wrapping_key"
)

// SealWrapped lists the entries that hold keys, those ending in a slash as prefixes: Vault
// Enterprise wraps them with its seal on top of the barrier.
func SealWrapped() []string { return []string{wrappingPrefix, firstWrappingKeyKey} }

// Store keeps the wrapping keys of one mount.
type Store struct{ mount *storage.Mount }

// NewStore returns the wrapping keys in m.
func NewStore(m *storage.Mount) *Store { return &Store{m} }

// firstWrappingKey is the ID of a wrapping key that was made before they had IDs, and
// that no record names.
const firstWrappingKey = "wrapping_key"

// WrappingRecord names the wrapping keys: the RSA keys under which owners of tenants
// wrap the keys that they import. Like a tenant's record it decides, and every change
// is one Put of it. The keys themselves are written once, under random IDs.
type WrappingRecord struct {
	KeyID     string    `json:"key_id"`
	CreatedAt time.Time `json:"created_at,omitzero"` // zero: made before this was noted
	// Former are the keys before, under which what is wrapped is still taken.
	Former []FormerWrappingKey `json:"former,omitempty"`
	// Request is the one that made this key the current one: sent again, it makes no
	// other.
	Request string `json:"request,omitempty"`
}

// FormerWrappingKey is a key that is destroyed at a time.
type FormerWrappingKey struct {
	KeyID        string    `json:"key_id"`
	DestroyAfter time.Time `json:"destroy_after"`
}

func wrappingKeyKey(id string) string {
	if id == firstWrappingKey {
		return firstWrappingKeyKey
	}
	return wrappingPrefix + id
}

// Wrapping reads which wrapping keys there are, nil if none was made yet. Of a mount
// that knows one key only, the record is made up.
func (s *Store) Wrapping(ctx context.Context) (*WrappingRecord, error) {
	r := new(WrappingRecord)
	found, err := s.mount.GetJSON(ctx, wrappingCurrent, r)
	if found || err != nil {
		return r, err
	}
	der, err := s.WrappingKey(ctx, firstWrappingKey)
	if der == nil || err != nil {
		return nil, err
	}
	return &WrappingRecord{KeyID: firstWrappingKey}, nil
}

// PutWrapping stores which wrapping keys there are.
func (s *Store) PutWrapping(ctx context.Context, r *WrappingRecord) error {
	return s.mount.PutJSON(ctx, wrappingCurrent, r)
}

// WrappingKey returns a private key in PKCS #8; nil if it is not in storage.
//
// Like a KEK it lies in Vault's barrier as it is. It protects keys on their way
// from their owner to here and nothing that is stored, so wrapping it under the
// KEK, which lies beside it, would gain nothing.
func (s *Store) WrappingKey(ctx context.Context, id string) ([]byte, error) {
	key, err := s.mount.Get(ctx, wrappingKeyKey(id))
	if err != nil {
		return nil, fmt.Errorf("reading the wrapping key: %w", err)
	}
	return key, nil
}

// AddWrappingKey stores a private key, which no record names yet, and returns its ID.
func (s *Store) AddWrappingKey(ctx context.Context, der []byte) (id string, err error) {
	if id, err = keyring.NewID("wk-"); err != nil {
		return "", err
	}
	return id, s.mount.PutSealWrapped(ctx, wrappingKeyKey(id), der)
}

// DestroyWrappingKey deletes a private key. One that is not there is no error.
func (s *Store) DestroyWrappingKey(ctx context.Context, id string) error {
	return s.mount.Delete(ctx, wrappingKeyKey(id))
}

// StoredWrappingKeys lists the IDs of the private keys in storage, those that no record
// names included.
func (s *Store) StoredWrappingKeys(ctx context.Context) ([]string, error) {
	return s.mount.List(ctx, wrappingPrefix)
}
