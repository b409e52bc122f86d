// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package rotation

import (
	"context"
	"errors"
	"fmt"

	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/actor"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/keyring"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/tenant"
)

// repeated returns the rotation that an earlier request with the same
// idempotency key started, or nil.
func (e *Engine) repeated(ctx context.Context, t *tenant.Record, req *Request) (*tenant.Rotation, error) {
	key := actor.RequestDigest(req.IdempotencyKey)
	if key == "" {
		return nil, nil
	}
	v := t.Keys.Match(func(v *keyring.Version) bool { return v.Request == key })
	if v == nil {
		return nil, nil
	}
	if req.Material != nil && v.Fingerprint != req.fingerprint {
		// The answer would say that this key was imported.
		return nil, &StateError{Message: fmt.Sprintf("idempotency_key is that of rotation %s, which was to another key", v.RotationID)}
	}
	r, err := e.find(ctx, t, v)
	if errors.Is(err, ErrNotFound) {
		err = &StateError{Message: fmt.Sprintf("idempotency_key is that of rotation %s, which is older than the history", v.RotationID)}
	}
	return r, err
}

// Find returns a rotation of t by its ID. It fails with [ErrNotFound].
func (e *Engine) Find(ctx context.Context, t *tenant.Record, rotationID string) (*tenant.Rotation, error) {
	v := t.Keys.Match(func(v *keyring.Version) bool { return v.RotationID == rotationID })
	if v == nil {
		return nil, ErrNotFound
	}
	return e.find(ctx, t, v)
}

func (e *Engine) find(ctx context.Context, t *tenant.Record, v *keyring.Version) (*tenant.Rotation, error) {
	for _, r := range []*tenant.Rotation{t.Rotation, t.Last} {
		if r != nil && r.To == v.Number {
			return r, nil
		}
	}
	r, err := e.tenants.History(ctx, t, v.Number)
	if err != nil {
		return nil, err
	}
	if r == nil {
		return nil, ErrNotFound
	}
	return r, nil
}

// All returns the rotations of t that are known, newest first.
func (e *Engine) All(ctx context.Context, t *tenant.Record) ([]*tenant.Rotation, error) {
	filed, err := e.tenants.AllHistory(ctx, t)
	if err != nil {
		return nil, err
	}
	var all []*tenant.Rotation
	for _, r := range []*tenant.Rotation{t.Rotation, t.Last} {
		if r != nil {
			all = append(all, r)
		}
	}
	for _, r := range filed {
		if len(all) == 0 || r.To < all[len(all)-1].To {
			all = append(all, r)
		}
	}
	return all, nil
}
