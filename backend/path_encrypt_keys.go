// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package backend

import (
	"context"
	"errors"
	"fmt"

	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/keyring"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/keystore"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/storage"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/tenant"
)

// sealTries bounds how often a request that seals begins again, since a rotation
// has put a version in place that has no external key yet.
const sealTries = 8

// errDoesNotOpen is one answer for all that authentication refuses: who tries
// what he should not learns no more from it than that.
var errDoesNotOpen = invalid("ciphertext does not open: it is damaged, not this tenant's, or has another associated_data")

// sealAll seals the entries that have not failed under the tenant's active
// version. If all have failed it changes nothing, but still tells whether there
// is such a tenant.
func (b *backend) sealAll(ctx context.Context, id string, batch *batch) error {
	if batch.failed() == len(batch.entries) {
		_, err := b.tenants.Active(ctx, id)
		return err
	}
	for range sealTries {
		err := b.trySealAll(ctx, id, batch)
		if !errors.Is(err, keystore.ErrNoExternalKey) {
			return err
		}
		// The lock cannot be upgraded: the version may be another one afterwards.
		if err := b.makeExternalKey(ctx, id); err != nil {
			return err
		}
	}
	return storage.ErrContended
}

// trySealAll fails with [keystore.ErrNoExternalKey] if nothing has left the engine
// under the active version yet. It holds the tenant's lock shared from reading
// the record until everything is sealed: so every ciphertext that is answered is
// of a version that was active, and of a key that is in storage, then.
func (b *backend) trySealAll(ctx context.Context, id string, batch *batch) error {
	b.limiter.Touch(b.now())
	defer b.tenants.Shared(id)()
	t, err := b.tenants.Active(ctx, id)
	if err != nil {
		return err
	}
	v := t.Keys.Active()
	key, err := b.keys.ExternalKey(ctx, t.Owner(), v)
	if err != nil {
		return err
	}
	for i := range batch.entries {
		e := &batch.entries[i]
		if e.err != nil {
			continue
		}
		sealed, err := key.Seal(e.plaintext, keyring.CiphertextAD(t.ID, t.Incarnation, v.KeyID, e.ad))
		if err != nil {
			return fmt.Errorf("encrypting under version %d: %w", v.Number, err)
		}
		e.result.Ciphertext = keyring.Ciphertext{Version: v.Number, Sealed: sealed}.String()
		e.result.KeyVersion = v.Number
	}
	return ctx.Err()
}

// makeExternalKey makes the external key of the active version under the
// tenant's exclusive lock, unless somebody has meanwhile.
func (b *backend) makeExternalKey(ctx context.Context, id string) error {
	defer b.tenants.Exclusive(id)()
	t, err := b.tenants.Active(ctx, id)
	if err != nil {
		return err
	}
	return b.keys.MakeExternalKey(ctx, t.Owner(), t.Keys.Active())
}

// openAll opens the entries that have not failed. It takes no lock: a version
// that is destroyed meanwhile opens before that, or does not.
func (b *backend) openAll(ctx context.Context, id string, batch *batch) error {
	b.limiter.Touch(b.now())
	t, err := b.tenants.Active(ctx, id)
	if err != nil {
		return err
	}
	for i := range batch.entries {
		e := &batch.entries[i]
		if e.err != nil {
			continue
		}
		e.plaintext, err = b.open(ctx, t, e.text, e.ad)
		switch {
		case refused(err):
			e.err = err
		case err != nil:
			return err
		}
	}
	return nil
}

// open opens one ciphertext of t. It fails with a refusal, unless there is a
// fault.
func (b *backend) open(ctx context.Context, t *tenant.Record, text string, ad []byte) ([]byte, error) {
	c, err := keyring.ParseCiphertext(text)
	if err != nil {
		return nil, invalid("%s", err)
	}
	v, err := t.Keys.Usable(c.Version)
	switch {
	case errors.Is(err, keyring.ErrVersionDestroyed):
		return nil, invalid("ciphertext is of version %d of the tenant's key, which was destroyed", c.Version)
	case err != nil:
		return nil, invalid("ciphertext is of version %d, which the tenant's key does not have", c.Version)
	}
	if least := t.LeastDecryptable(); c.Version < least {
		return nil, invalid("ciphertext is of version %d of the tenant's key, below min_decryption_version, which is %d", c.Version, least)
	}
	key, err := b.keys.ExternalKey(ctx, t.Owner(), v)
	if errors.Is(err, keystore.ErrNoExternalKey) {
		return nil, errDoesNotOpen // nothing was ever sealed by it
	}
	if err != nil {
		return nil, err
	}
	plaintext, err := key.Open(c.Sealed, keyring.CiphertextAD(t.ID, t.Incarnation, v.KeyID, ad))
	if err != nil {
		return nil, errDoesNotOpen
	}
	return plaintext, nil
}
