// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package backend

import (
	"context"
	"errors"
	"fmt"

	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/rotation"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/tenant"
)

// replaceWorn rotates keys that have sealed nearly as much as their type allows. It
// waits neither for a date nor for a place in the budget, and neither
// rotation_paused nor a paused rotation holds it up: soon these keys would refuse
// to seal at all.
func (s *scheduler) replaceWorn(ctx context.Context, did *tally) {
	for id, keyID := range s.b.keys.OverLimit() {
		if err := s.replaceKey(ctx, id, keyID, did); err != nil {
			did.trouble(err)
		}
	}
}

func (s *scheduler) replaceKey(ctx context.Context, id, keyID string, did *tally) error {
	t, err := s.b.tenants.Read(ctx, id)
	if errors.Is(err, tenant.ErrNotFound) || err == nil && t.Keys.Active().KeyID != keyID {
		s.b.keys.ForgetOverLimit(id, keyID)
		return nil
	}
	switch {
	case err != nil:
		return err
	case t.State != tenant.Active:
		return nil // it seals nothing, unless it is restored
	case t.Rotation != nil:
		return s.hasten(ctx, t)
	}
	v := t.Keys.Active()
	return s.start(ctx, t, rotation.Request{
		Reason: fmt.Sprintf("version %d nears the %d messages that a key of type %s may seal", v.Number, s.b.keys.SealLimit(), v.KeyType),
		Unless: func(t *tenant.Record) bool { return t.Keys.Active().KeyID != keyID },
	}, func() {}, did)
}

// hasten resumes the rotation that has to end before a worn key can be replaced,
// should it be paused.
func (s *scheduler) hasten(ctx context.Context, t *tenant.Record) error {
	if !t.Rotation.Paused {
		return nil
	}
	r, err := s.b.rotations.Do(ctx, t.ID, t.Rotation.ID, rotation.Resume)
	var state *rotation.StateError
	if errors.As(err, &state) || errors.Is(err, tenant.ErrNotFound) || errors.Is(err, tenant.ErrDeleting) {
		return nil // it has ended meanwhile, or the tenant has
	}
	if err != nil {
		return err
	}
	s.b.Logger().Warn("a paused rotation is resumed, since the key in use is nearly used up", "tenant_id", t.ID, "rotation_id", r.ID)
	return nil
}
