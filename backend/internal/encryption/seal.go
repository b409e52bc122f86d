// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package encryption

import (
	"context"
	"errors"
	"fmt"

	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/keyring"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/keystore"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/storage"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/tenant"
)

// sealTries bounds how often Seal begins again because a rotation has put a
// version in place that has no external key yet.
const sealTries = 8

// Seal seals texts under the tenant's active version, and returns one result for
// each, in their order. With no text it changes nothing, but still reports whether
// there is such a tenant. It fails with [tenant.ErrNotFound], [tenant.ErrDeleting],
// [keystore.ErrExhausted] or [storage.ErrContended].
func (e *Engine) Seal(ctx context.Context, tenantID string, texts []Plaintext) ([]Sealed, error) {
	if len(texts) == 0 {
		_, err := e.tenants.Active(ctx, tenantID)
		return nil, err
	}
	for range sealTries {
		sealed, err := e.trySeal(ctx, tenantID, texts)
		if !errors.Is(err, keystore.ErrNoExternalKey) {
			return sealed, err
		}
		// The lock cannot be upgraded: the version may be another one afterwards.
		if err := e.makeExternalKey(ctx, tenantID); err != nil {
			return nil, err
		}
	}
	return nil, storage.ErrContended
}

// trySeal fails with [keystore.ErrNoExternalKey] if nothing has left the engine
// under the active version yet.
func (e *Engine) trySeal(ctx context.Context, tenantID string, texts []Plaintext) ([]Sealed, error) {
	defer e.tenants.Shared(tenantID)()
	t, err := e.tenants.Active(ctx, tenantID)
	if err != nil {
		return nil, err
	}
	v := t.Keys.Active()
	key, err := e.keys.ExternalKey(ctx, t.Owner(), v)
	if err != nil {
		return nil, err
	}
	results := make([]Sealed, len(texts))
	for i, text := range texts {
		sealed, err := key.Seal(text.Plaintext, keyring.CiphertextAD(t.ID, t.Incarnation, v.KeyID, text.AssociatedData))
		if err != nil {
			return nil, fmt.Errorf("encrypting under version %d: %w", v.Number, err)
		}
		results[i] = Sealed{Text: keyring.Ciphertext{Version: v.Number, Sealed: sealed}.String(), Version: v.Number}
	}
	return results, ctx.Err()
}

// makeExternalKey makes the external key of the active version under the tenant's
// exclusive lock, unless another request has made it meanwhile.
func (e *Engine) makeExternalKey(ctx context.Context, tenantID string) error {
	return e.tenants.Hold(ctx, tenantID, func(h *tenant.Held) error {
		t, err := h.Active()
		if err != nil {
			return err
		}
		return e.keys.MakeExternalKey(ctx, t.Owner(), t.Keys.Active())
	})
}
