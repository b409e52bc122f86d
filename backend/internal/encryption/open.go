// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package encryption

import (
	"context"
	"errors"
	"fmt"

	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/keyring"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/keystore"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/tenant"
)

// refusals are the errors by which one text fails alone.
var refusals = []error{ErrMalformed, ErrDoesNotOpen, ErrVersionDestroyed, ErrUnknownVersion, ErrBelowMinimum}

// Refused reports whether err refuses one text, and is no fault.
func Refused(err error) bool {
	for _, r := range refusals {
		if errors.Is(err, r) {
			return true
		}
	}
	return false
}

// Open opens texts of a tenant, and returns one result for each, in their order.
// It fails with [tenant.ErrNotFound] or [tenant.ErrDeleting].
func (e *Engine) Open(ctx context.Context, tenantID string, texts []Ciphertext) ([]Opened, error) {
	t, err := e.tenants.Active(ctx, tenantID)
	if err != nil {
		return nil, err
	}
	results := make([]Opened, len(texts))
	for i, text := range texts {
		plaintext, err := e.open(ctx, t, text)
		if err != nil && !Refused(err) {
			return nil, err
		}
		results[i] = Opened{plaintext, err}
	}
	return results, nil
}

// Rewrap opens texts of a tenant and seals what they hold under the active version,
// with the same associated data. It returns one result for each, in their order,
// and fails as Open and Seal do.
func (e *Engine) Rewrap(ctx context.Context, tenantID string, texts []Ciphertext) ([]Sealed, error) {
	opened, err := e.Open(ctx, tenantID, texts)
	if err != nil {
		return nil, err
	}
	results := make([]Sealed, len(texts))
	var (
		plaintexts []Plaintext
		places     []int
	)
	for i, o := range opened {
		if results[i].Err = o.Err; o.Err == nil {
			plaintexts = append(plaintexts, Plaintext{o.Plaintext, texts[i].AssociatedData})
			places = append(places, i)
		}
	}
	sealed, err := e.Seal(ctx, tenantID, plaintexts)
	if err != nil {
		return nil, err
	}
	for i, s := range sealed {
		results[places[i]] = s
	}
	return results, nil
}

// open opens one text of t.
func (e *Engine) open(ctx context.Context, t *tenant.Record, text Ciphertext) ([]byte, error) {
	c, err := keyring.ParseCiphertext(text.Text)
	if err != nil {
		return nil, err
	}
	v, err := openable(t, c.Version)
	if err != nil {
		return nil, err
	}
	key, err := e.keys.ExternalKey(ctx, t.Owner(), v)
	if errors.Is(err, keystore.ErrNoExternalKey) {
		return nil, ErrDoesNotOpen // nothing was ever sealed by it
	}
	if err != nil {
		return nil, err
	}
	plaintext, err := key.Open(c.Sealed, keyring.CiphertextAD(t.ID, t.Incarnation, v.KeyID, text.AssociatedData))
	if err != nil {
		return nil, ErrDoesNotOpen
	}
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
	}
	if least := t.LeastDecryptable(); number < least {
		return nil, fmt.Errorf("ciphertext is of version %d of the tenant's key, %w, which is %d", number, ErrBelowMinimum, least)
	}
	return v, nil
}
