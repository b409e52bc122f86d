// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package rotation

import (
	"context"

	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/keyring"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/tenant"
)

// recognize settles the fingerprint of the key that a request brings along. It
// depends on the tenant's incarnation, so on the record that was just read.
func (e *Engine) recognize(ctx context.Context, t *tenant.Record, req *Request) (err error) {
	if req.Material != nil {
		req.fingerprint, err = e.items.Fingerprint(ctx, t, req.Material)
	}
	return err
}

// mustBeNew fails with a [KnownKeyError] for an imported key that a version of t
// has or had. To go back to it would be no rotation, and an AES-GCM key would
// begin to count its messages anew.
func mustBeNew(t *tenant.Record, fingerprint string) error {
	if fingerprint == "" {
		return nil
	}
	v := t.Keys.Match(func(v *keyring.Version) bool { return v.Fingerprint == fingerprint })
	if v == nil {
		return nil
	}
	return &KnownKeyError{Version: v.Number, RotationID: v.RotationID}
}

// writeKey stores the page key of the version that is about to be the active
// one: derived from material if it is given, else a random key.
func (e *Engine) writeKey(ctx context.Context, next *tenant.Record, material []byte) error {
	v := next.Keys.Active()
	b := next.Owner().Binding(v.KeyID, v.KeyType, keyring.PageKey)
	if material == nil {
		return e.keys.CreateKey(ctx, next.KEKID(), b)
	}
	key, err := keyring.DerivePageKey(material, b)
	if err != nil {
		return err
	}
	defer clear(key)
	return e.keys.ImportKey(ctx, next.KEKID(), b, key)
}
