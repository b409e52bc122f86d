// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package store

import (
	"context"
	"errors"
	"slices"
	"strings"

	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/keyring"
)

// Rewrapped says what a look at the keys of one tenant found and did.
type Rewrapped struct {
	Keys     int // are on the KEK now
	Changed  int // entries that were written or deleted to that end
	Failures []KeyFailure
	// Unsettled says that the failure may pass by itself: look again later.
	Unsettled bool
}

// RewrapKeys moves the keys of a tenant to the KEK of that ID, which is the current
// one. What cannot be moved is in the failures, and is no error. It fails with
// [ErrKEKChanged] if another KEK is current.
//
// It holds the tenant's lock exclusively and moves what a List under that lock
// shows, nothing else: a key whose deletion failed with effect may still show to
// a Get, behind a stale cache, and moving it would bring it back.
func (s *Store) RewrapKeys(ctx context.Context, tenantID, kekID string) (Rewrapped, error) {
	defer s.Exclusive(tenantID)()
	t, err := s.readTenant(ctx, tenantID)
	switch {
	case errors.Is(err, ErrTenantNotFound):
		return s.withoutRecord(ctx, tenantID)
	case errors.Is(err, errRecord):
		return Rewrapped{Failures: []KeyFailure{{TenantID: tenantID, Reason: errRecord.Error()}}}, nil
	case err != nil:
		return Rewrapped{}, err
	case t.State == TenantShredding:
		// Its keys are being destroyed, without the lock. None is needed any more.
		return Rewrapped{}, nil
	}
	ids, err := s.mount.List(ctx, keysOf(t.Incarnation))
	if err != nil {
		return Rewrapped{}, err
	}
	to, release, err := s.currentKEK(ctx)
	if err != nil {
		return Rewrapped{}, err
	}
	defer release()
	if to.ID != kekID {
		return Rewrapped{}, ErrKEKChanged
	}
	m := mover{s: s, t: t, to: to, from: map[string]*keyring.KEK{}}
	for _, id := range ids {
		if err := m.move(ctx, id); err != nil {
			return m.did, err
		}
	}
	return m.did, nil
}

// withoutRecord looks at a tenant that was listed and has no record to be read.
// If it is listed still, its creation failed with effect behind a stale cache,
// and what its keys are called is not known until the record shows. Then the old
// KEK has to stay, until the creation has been undone or made again. The caller
// holds the tenant's lock exclusively.
func (s *Store) withoutRecord(ctx context.Context, tenantID string) (r Rewrapped, err error) {
	ids, err := s.TenantsInShard(ctx, int(shardOf(tenantID)))
	if err == nil && slices.Contains(ids, tenantID) {
		r.Unsettled = true
		r.Failures = []KeyFailure{{TenantID: tenantID, Reason: "the tenant is listed, but its record does not show"}}
	}
	return r, err
}

// mover moves the keys of one tenant.
type mover struct {
	s    *Store
	t    *Tenant
	to   *keyring.KEK
	from map[string]*keyring.KEK // those that were read for it
	did  Rewrapped
}

func (m *mover) fail(keyID string, reason string) {
	m.did.Failures = append(m.did.Failures, KeyFailure{m.t.ID, keyID, reason})
}

func (m *mover) move(ctx context.Context, keyID string) error {
	w, err := m.s.readKey(ctx, m.t.Incarnation, keyID)
	if errors.Is(err, ErrKeyDamaged) {
		m.fail(keyID, "the entry is malformed")
		return nil
	}
	if err != nil {
		return err
	}
	if w == nil {
		return m.hidden(ctx, keyID)
	}
	if w.KEKID == m.to.ID {
		m.did.Keys++
		return nil
	}
	key, err := m.open(ctx, keyID, w)
	if KeyGone(err) || errors.Is(err, keyring.ErrUnwrap) {
		m.fail(keyID, reasonOf(err))
		return nil
	}
	if err != nil {
		return err
	}
	defer clear(key)
	if err := m.s.putKey(ctx, m.to, m.bindingOf(keyID, w), key); err != nil {
		return err
	}
	m.did.Keys++
	m.did.Changed++
	return nil
}

// hidden settles a key that is listed and does not show: its Put failed with
// effect behind a stale cache. Whoever made it got that error, and has sealed
// nothing under it, nor has anybody else, since it never showed. So it goes,
// unless the record names it, which cannot be: then it stays, and the old KEK.
func (m *mover) hidden(ctx context.Context, keyID string) error {
	if m.t.names(keyID) {
		m.fail(keyID, "the key is listed, but does not show")
		return nil
	}
	if err := m.s.DestroyKey(ctx, m.t.Incarnation, keyID); err != nil {
		return err
	}
	m.did.Changed++
	return nil
}

// names reports whether the record says that there is a key of that ID. It says
// nothing of external keys: see ExternalUse.
func (t *Tenant) names(keyID string) bool {
	return keyID == t.PlacementKeyID || t.Keys.Match(func(v *keyring.Version) bool {
		return v.KeyID == keyID && v.State != keyring.Destroyed && !v.PageKeyDestroyed
	}) != nil
}

// open unwraps a key. The caller clears it.
func (m *mover) open(ctx context.Context, keyID string, w *wrappedKey) ([]byte, error) {
	kek := m.from[w.KEKID]
	if kek == nil {
		var err error
		if kek, err = m.s.kek(ctx, w.KEKID); err != nil {
			return nil, err
		}
		m.from[w.KEKID] = kek
	}
	return kek.Unwrap(ctx, w.Wrapped, m.bindingOf(keyID, w))
}

// bindingOf is where the key in an entry belongs.
func (m *mover) bindingOf(keyID string, w *wrappedKey) keyring.Binding {
	purpose := keyring.PageKey
	switch {
	case strings.HasSuffix(keyID, externalSuffix):
		purpose = keyring.ExternalKey
	case keyID == m.t.PlacementKeyID:
		purpose = keyring.PlacementKey
	}
	return m.t.Owner().Binding(keyID, w.KeyType, purpose)
}

// reasonOf says why a key does not open, and no more than that.
func reasonOf(err error) string {
	switch {
	case errors.Is(err, ErrKeyGone):
		return "its key-encryption key is not in storage"
	case errors.Is(err, ErrKeyDamaged):
		return "its key-encryption key is damaged"
	}
	return "it does not open under its key-encryption key"
}
