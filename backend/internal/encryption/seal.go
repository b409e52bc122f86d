// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package encryption

import (
	"context"
	"errors"

	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/keyring"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/keystore"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/storage"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/tenant"
)

// sealTries bounds how often a request begins again because a rotation has put a
// version in place that has no external key yet.
const sealTries = 8

// Seal seals texts under the tenant's active version, and returns one result for
// each, in their order. With no text it changes nothing, but still reports whether
// there is such a tenant. It fails with [tenant.ErrNotFound], [tenant.ErrDeleting],
// [keystore.ErrExhausted] or [storage.ErrContended].
func (e *Engine) Seal(ctx context.Context, tenantID string, texts []Plaintext) ([]Sealed, error) {
	tasks := make([]task, len(texts))
	for i, text := range texts {
		tasks[i] = task{plaintext: text.Plaintext, ad: text.AssociatedData}
		if keyring.IsReserved(text.AssociatedData) {
			tasks[i].refusal = ErrReserved
		}
	}
	sealed, err := e.seal(ctx, tenantID, tasks)
	e.counters.encrypt.addSealed(sealed)
	return sealed, err
}

// task is a text to seal, or one that was refused before.
type task struct {
	form      keyring.Form
	plaintext []byte // for the first line of a file its data key
	ad        []byte
	refusal   error
	// current, if set, is what the text is now: it stays if it is of the active
	// version.
	current *keyring.Text
}

func (e *Engine) seal(ctx context.Context, tenantID string, tasks []task) ([]Sealed, error) {
	for range sealTries {
		sealed, err := e.trySeal(ctx, tenantID, tasks)
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

// trySeal fails with [keystore.ErrNoExternalKey] if there is something to seal and
// nothing has left the engine under the active version yet.
func (e *Engine) trySeal(ctx context.Context, tenantID string, tasks []task) ([]Sealed, error) {
	defer e.tenants.Shared(tenantID)()
	t, err := e.tenants.Active(ctx, tenantID)
	if err != nil {
		return nil, err
	}
	s := sealer{keys: e.keys, tenant: t, version: t.Keys.Active(), used: &used{engine: e, tenant: t}}
	results := make([]Sealed, len(tasks))
	for i, k := range tasks {
		if results[i].Err = k.refusal; k.refusal != nil {
			continue
		}
		if results[i], err = s.seal(ctx, k); err != nil {
			return nil, err
		}
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
		return e.keys.MakeExternalKey(ctx, t.Owner(), t.KEKID(), t.Keys.Active())
	})
}
