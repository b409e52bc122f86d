// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package encryption

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/keyring"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/keystore"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/tenant"
)

// Open opens texts of a tenant, ciphertexts of the engine and envelopes, and
// returns one result for each, in their order. It fails with [tenant.ErrNotFound]
// or [tenant.ErrDeleting].
func (e *Engine) Open(ctx context.Context, tenantID string, texts []Ciphertext) ([]Opened, error) {
	o, err := e.newOpener(ctx, tenantID)
	if err != nil {
		return nil, err
	}
	results := make([]Opened, len(texts))
	for i, c := range texts {
		text, plaintext, err := o.open(ctx, c)
		if err == nil && text.Form == keyring.FormFile {
			clear(plaintext)
			plaintext, err = nil, ErrFirstLine
		}
		if err != nil && !Refused(err) {
			return nil, err
		}
		results[i] = Opened{Plaintext: plaintext, Err: err}
		if err == nil && text.Form == keyring.FormCiphertext && keyring.IsReserved(c.AssociatedData) {
			if results[i].Lease, err = o.dataKeyLease(ctx); err != nil {
				return nil, err
			}
		}
	}
	if err := o.noteTries(ctx); err != nil {
		return nil, err
	}
	e.counters.decrypt.addOpened(results)
	return results, nil
}

// opener opens the texts of one request.
type opener struct {
	engine *Engine
	keys   *keystore.Store
	tenant *tenant.Record
	used   *used
	// dataKeys caches the data keys of envelopes, by their text: envelopes that a
	// client has sealed one after the other share one.
	dataKeys map[string]keyring.AEAD
	lease    *time.Duration // of data keys; nil until it is asked for
	// tried are versions that every holder has reported gone.
	tried map[int]bool
}

func (e *Engine) newOpener(ctx context.Context, tenantID string) (*opener, error) {
	t, err := e.tenants.Active(ctx, tenantID)
	if err != nil {
		return nil, err
	}
	return &opener{engine: e, keys: e.keys, tenant: t, used: &used{engine: e, tenant: t}, dataKeys: map[string]keyring.AEAD{}}, nil
}

// dataKeyLease is the lease of the data keys that a request opens.
func (o *opener) dataKeyLease(ctx context.Context) (*time.Duration, error) {
	if o.lease == nil {
		config, err := o.engine.settings.Config(ctx)
		if err != nil {
			return nil, err
		}
		lease := o.keys.LeaseLeft(config.DataKeyLease, o.tenant.KEKRanges()...)
		o.lease = &lease
	}
	return o.lease, nil
}

// open opens one text. Of the first line of a file it returns the data key.
func (o *opener) open(ctx context.Context, c Ciphertext) (keyring.Text, []byte, error) {
	text, err := keyring.ParseText(c.Text)
	if err != nil {
		return text, nil, err
	}
	var plaintext []byte
	switch text.Form {
	case keyring.FormEnvelope:
		plaintext, err = o.openEnvelope(ctx, text, c.AssociatedData)
	case keyring.FormFile:
		if len(c.AssociatedData) > 0 {
			return text, nil, ErrFirstLineAD
		}
		plaintext, err = o.openDataKey(ctx, text.Ciphertext, keyring.FileKeyAD)
	default:
		plaintext, err = o.openCiphertext(ctx, text.Ciphertext, c.AssociatedData)
	}
	return text, plaintext, err
}

func (o *opener) openEnvelope(ctx context.Context, text keyring.Text, ad []byte) ([]byte, error) {
	sealed := text.Ciphertext.String()
	dataKey, found := o.dataKeys[sealed]
	if !found {
		key, err := o.openDataKey(ctx, text.Ciphertext, keyring.EnvelopeKeyAD)
		if err != nil {
			return nil, err
		}
		defer clear(key)
		if dataKey, err = keyring.DataKeyAEAD(key); err != nil {
			return nil, fmt.Errorf("opening an envelope: %w", err)
		}
		o.dataKeys[sealed] = dataKey
	}
	plaintext, err := keyring.OpenEnvelope(dataKey, text, ad)
	if err != nil {
		return nil, ErrDoesNotOpen
	}
	return plaintext, nil
}

// openDataKey opens what datakey has made with these associated data.
func (o *opener) openDataKey(ctx context.Context, c keyring.Ciphertext, reserved string) ([]byte, error) {
	key, err := o.openCiphertext(ctx, c, []byte(reserved))
	if err == nil && len(key) != keyring.KeySize {
		clear(key)
		return nil, ErrDoesNotOpen // sealed before these associated data were reserved
	}
	return key, err
}

func (o *opener) openCiphertext(ctx context.Context, c keyring.Ciphertext, ad []byte) ([]byte, error) {
	v, err := openable(o.tenant, c.Version)
	if err != nil {
		o.noteTry(o.tenant.Keys.Find(c.Version))
		return nil, err
	}
	key, err := o.keys.ExternalKey(ctx, o.tenant.Owner(), v)
	if errors.Is(err, keystore.ErrNoExternalKey) {
		return nil, ErrDoesNotOpen // nothing was ever sealed by it
	}
	if err != nil {
		return nil, err
	}
	o.noteTry(v)
	plaintext, err := key.Open(c.Sealed, keyring.CiphertextAD(o.tenant.ID, o.tenant.Incarnation, v.KeyID, ad))
	if err != nil {
		return nil, ErrDoesNotOpen
	}
	o.used.note(v)
	return plaintext, nil
}

// openable returns the version of t of that number, if its ciphertexts are opened.
func openable(t *tenant.Record, number int) (*keyring.Version, error) {
	v, err := t.Keys.Usable(number)
	switch {
	case errors.Is(err, keyring.ErrVersionDestroyed):
		return nil, fmt.Errorf("ciphertext is of version %d of the tenant's key, %w", number, ErrVersionDestroyed)
	case err != nil:
		return nil, fmt.Errorf("ciphertext is of version %d, %w", number, ErrUnknownVersion)
	case v.ExternalKeyEnds: // the record says so before the key is deleted
		return nil, fmt.Errorf("ciphertext is of version %d of the tenant's key, %w", number, ErrVersionDestroyed)
	}
	if least := t.LeastDecryptable(); number < least {
		return nil, fmt.Errorf("ciphertext is of version %d of the tenant's key, %w, which is %d", number, ErrBelowMinimum, least)
	}
	return v, nil
}

// noteTry notes a use of a version, or a try, if every holder has reported it gone. v may
// be nil.
func (o *opener) noteTry(v *keyring.Version) {
	if v == nil || v.Gone.At.IsZero() || !o.engine.notesTry(v, o.engine.now()) {
		return
	}
	if o.tried == nil {
		o.tried = map[int]bool{}
	}
	o.tried[v.Number] = true
}

// noteTries stores what was noted, so that the keys are kept for longer.
func (o *opener) noteTries(ctx context.Context) error {
	if len(o.tried) == 0 {
		return nil
	}
	return o.engine.tried(ctx, o.tenant.ID, slices.Sorted(maps.Keys(o.tried)))
}
