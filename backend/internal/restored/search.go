// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package restored

import (
	"context"
	"errors"
	"slices"

	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/keystore"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/storage"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/tenant"
	"github.com/vault-plugin-dek/vault-plugin-dek/evidence"
)

// search looks for what entries say was destroyed.
type search struct {
	*Engine
	back    *Back
	present map[string]map[string]bool // the keys that are there, by incarnation; empty: the mount's
}

func (s *search) look(ctx context.Context, leaf []byte) error {
	event, err := evidence.Decode(leaf)
	if err != nil {
		return nil //nolint:nilerr // of a later version: it is counted
	}
	switch d := event.Detail.(type) {
	case *evidence.KeyDestroyed:
		there, err := s.keysOf(ctx, event.Incarnation)
		if err == nil && there[idOf(d)] {
			s.back.Keys, s.back.Of = append(s.back.Keys, *d), append(s.back.Of, event.TenantID)
		}
		return err
	case *evidence.TenantShredded:
		t, err := s.tenants.Read(ctx, event.TenantID)
		if errors.Is(err, tenant.ErrNotFound) || errors.Is(err, tenant.ErrDamaged) {
			return nil
		}
		if err == nil && t.Incarnation == event.Incarnation {
			s.back.Tenants = append(s.back.Tenants, event.TenantID)
		}
		return err
	}
	return nil
}

// idOf is what a key is called in storage.
func idOf(d *evidence.KeyDestroyed) string {
	if d.Which == evidence.WhichExternal {
		return d.KeyID + keystore.ExternalSuffix
	}
	return d.KeyID
}

// keysOf lists the keys of an incarnation that are there, with key-encryption keys of its
// own; without an incarnation the mount's. What cannot be listed for good is not told.
func (s *search) keysOf(ctx context.Context, incarnation string) (map[string]bool, error) {
	if there, listed := s.present[incarnation]; listed {
		return there, nil
	}
	lists := []func(context.Context) ([]string, error){s.keys.StoredKEKs}
	if incarnation != "" {
		lists = []func(context.Context) ([]string, error){
			func(ctx context.Context) ([]string, error) { return s.keys.List(ctx, incarnation) },
			func(ctx context.Context) ([]string, error) { return s.keys.OwnKEKs(ctx, incarnation) },
		}
	}
	there := map[string]bool{}
	for _, list := range lists {
		ids, err := list(ctx)
		if err != nil && !storage.IsDamaged(err) {
			return nil, err
		}
		for id := range slices.Values(ids) {
			there[id] = true
		}
	}
	s.present[incarnation] = there
	return there, nil
}
