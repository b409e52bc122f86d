// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package encryption

import (
	"context"
	"crypto/rand"
	"time"

	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/keyring"
)

// DataKey is a random key for the caller to encrypt with. The engine does not keep
// it.
type DataKey struct {
	Key    []byte // in clear: the caller clears it after use
	Sealed Sealed // Open opens it, with the same associated data
	// Lease is how long the caller may go on using the key, sealing and opening. It
	// bounds how long anything opens in a caller's process after a version was
	// destroyed, a tenant deleted, or a key provider denied.
	Lease time.Duration
}

// DataKey makes a random key of size bytes and seals it under the tenant's active
// version. With one of the reserved associated data it is a key for envelopes or
// for a file. It fails as Seal does, and with [ErrDataKeySize].
func (e *Engine) DataKey(ctx context.Context, tenantID string, size int, associatedData []byte) (DataKey, error) {
	if keyring.IsReserved(associatedData) && size != keyring.KeySize {
		return DataKey{}, ErrDataKeySize
	}
	config, err := e.settings.Config(ctx)
	if err != nil {
		return DataKey{}, err
	}
	key := make([]byte, size)
	_, _ = rand.Read(key) // never fails
	sealed, err := e.seal(ctx, tenantID, []task{{plaintext: key, ad: associatedData}})
	if err != nil {
		clear(key)
		return DataKey{}, err
	}
	e.counters.dataKey.addSealed(sealed)
	t, err := e.tenants.Active(ctx, tenantID)
	if err != nil {
		clear(key)
		return DataKey{}, err
	}
	return DataKey{key, sealed[0], e.keys.LeaseLeft(config.DataKeyLease, t.KEKRanges()...)}, nil
}
