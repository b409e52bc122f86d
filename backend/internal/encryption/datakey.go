// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package encryption

import (
	"context"
	"crypto/rand"
)

// DataKey is a random key for the caller to encrypt with. The engine does not keep
// it.
type DataKey struct {
	Key    []byte // in clear: the caller clears it after use
	Sealed Sealed // Open opens it, with the same associated data
}

// DataKey makes a random key of size bytes and seals it under the tenant's active
// version. It fails as Seal does.
func (e *Engine) DataKey(ctx context.Context, tenantID string, size int, associatedData []byte) (DataKey, error) {
	key := make([]byte, size)
	_, _ = rand.Read(key) // never fails
	sealed, err := e.Seal(ctx, tenantID, []Plaintext{{key, associatedData}})
	if err != nil {
		clear(key)
		return DataKey{}, err
	}
	return DataKey{key, sealed[0]}, nil
}
