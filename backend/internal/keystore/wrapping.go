// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package keystore

import (
	"context"
	"fmt"
)

// WrappingKey returns the private key under which owners of tenants wrap the
// keys that they import, in PKCS #8; nil if none was made yet.
//
// Like a KEK it lies in Vault's barrier as it is. It protects keys on their way
// from their owner to here and nothing that is stored, so wrapping it under the
// KEK, which lies beside it, would gain nothing.
func (s *Store) WrappingKey(ctx context.Context) ([]byte, error) {
	key, err := s.mount.Get(ctx, wrappingKeyKey)
	if err != nil {
		return nil, fmt.Errorf("reading the wrapping key: %w", err)
	}
	return key, nil
}

// MakeWrappingKey returns the wrapping key, made by generate if there is none yet. Only
// one is made at a time: generating takes a while, and no tenant's lock is held
// meanwhile.
//
// Get decides whether there is one. After a Put that failed with effect, Vault's cache
// may go on showing none, and a new key then replaces the one in storage. No caller has
// seen that one: its public half is answered only after a Put that succeeded, or after
// a Get that has shown the key, and from then on Get goes on showing it.
func (s *Store) MakeWrappingKey(ctx context.Context, generate func() ([]byte, error)) ([]byte, error) {
	s.wrappingLock.Lock()
	defer s.wrappingLock.Unlock()
	key, err := s.WrappingKey(ctx)
	if key != nil || err != nil {
		return key, err
	}
	if key, err = generate(); err != nil {
		return nil, err
	}
	if err := s.mount.PutSealWrapped(ctx, wrappingKeyKey, key); err != nil {
		return nil, err
	}
	return key, nil
}
