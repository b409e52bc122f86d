// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package kekrotation

import (
	"context"
	"errors"
	"slices"
	"strings"

	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/keyring"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/keystore"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/storage"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/tenant"
)

// Rewrapped counts what was found and done for the keys of one tenant.
type Rewrapped struct {
	Keys     int // are on the KEK now
	Changed  int // entries that were written or deleted to that end
	Failures []keystore.KeyFailure
	// Unsettled says that the failure may pass by itself: look again later.
	Unsettled bool
}

// RewrapKeys moves the keys of a tenant to the KEK of that ID, which is the current
// one. What cannot be moved is in the failures, and is no error. It fails with
// [keystore.ErrKEKChanged] if another KEK is current.
//
// It holds the tenant's lock exclusively and moves what a List under that lock
// shows, nothing else: a key whose deletion failed with effect may still show to
// a Get, behind a stale cache, and moving it would bring it back.
func (e *Engine) RewrapKeys(ctx context.Context, tenantID, kekID string) (Rewrapped, error) {
	defer e.tenants.Exclusive(tenantID)()
	t, err := e.tenants.ReadStored(ctx, tenantID)
	switch {
	case errors.Is(err, tenant.ErrNotFound):
		return e.withoutRecord(ctx, tenantID)
	case errors.Is(err, tenant.ErrDamaged):
		return Rewrapped{Failures: []keystore.KeyFailure{{TenantID: tenantID, Reason: tenant.ErrDamaged.Error()}}}, nil
	case err != nil:
		return Rewrapped{}, err
	case t.State == tenant.Shredding:
		// Its keys are being destroyed, without the lock. None is needed any more.
		return Rewrapped{}, nil
	}
	ids, err := e.keys.List(ctx, t.Incarnation)
	if storage.IsDamaged(err) {
		return Rewrapped{Failures: []keystore.KeyFailure{{TenantID: tenantID, Reason: "the tenant's keys cannot be listed"}}}, nil
	}
	if err != nil {
		return Rewrapped{}, err
	}
	to, release, err := e.keys.CurrentKEK(ctx)
	if err != nil {
		return Rewrapped{}, err
	}
	defer release()
	if to.ID != kekID {
		return Rewrapped{}, keystore.ErrKEKChanged
	}
	m := mover{e: e, t: t, to: to, from: map[string]*keyring.KEK{}}
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
func (e *Engine) withoutRecord(ctx context.Context, tenantID string) (r Rewrapped, err error) {
	ids, err := e.tenants.InShard(ctx, int(tenant.ShardOf(tenantID)))
	if storage.IsDamaged(err) {
		return r, nil // the part has a failure of its own
	}
	if err == nil && slices.Contains(ids, tenantID) {
		r.Unsettled = true
		r.Failures = []keystore.KeyFailure{{TenantID: tenantID, Reason: "the tenant is listed, but its record does not show"}}
	}
	return r, err
}

// mover moves the keys of one tenant.
type mover struct {
	e    *Engine
	t    *tenant.Record
	to   *keyring.KEK
	from map[string]*keyring.KEK // those that were read for it
	did  Rewrapped
}

func (m *mover) fail(keyID string, reason string) {
	m.did.Failures = append(m.did.Failures, keystore.KeyFailure{TenantID: m.t.ID, KeyID: keyID, Reason: reason})
}

func (m *mover) move(ctx context.Context, keyID string) error {
	w, err := m.e.keys.ReadKey(ctx, m.t.Incarnation, keyID)
	if errors.Is(err, keystore.ErrDamaged) {
		m.fail(keyID, "the entry is damaged")
		return nil
	}
	if err != nil {
		return err
	}
	if w == nil {
		return m.staleMiss(ctx, keyID)
	}
	if w.KEKID == m.to.ID {
		m.did.Keys++
		return nil
	}
	key, err := m.open(ctx, keyID, w)
	if keystore.IsGone(err) || errors.Is(err, keyring.ErrUnwrap) {
		m.fail(keyID, reasonOf(err))
		return nil
	}
	if err != nil {
		return err
	}
	defer clear(key)
	if err := m.e.keys.PutKey(ctx, m.to, m.bindingOf(keyID, w), key); err != nil {
		return err
	}
	m.did.Keys++
	m.did.Changed++
	return nil
}

// staleMiss settles a key that is listed and does not show: its Put failed with
// effect behind a stale cache. The caller that made it got that error and has sealed
// nothing under it, nor has any other, because it never showed. So it is deleted. If
// the record counts on it, it stays, and so does the old KEK: once it shows, the next
// rotation moves it.
func (m *mover) staleMiss(ctx context.Context, keyID string) error {
	if namesKey(m.t, keyID) {
		m.fail(keyID, "the key is listed, but does not show")
		return nil
	}
	if err := m.e.keys.DestroyKey(ctx, m.t.Incarnation, keyID); err != nil {
		return err
	}
	m.did.Changed++
	return nil
}

// namesKey reports whether the record of t says that there is a key of that ID. Of
// external keys it does so only where one is all that is left of a version, which was
// kept because a List showed it: see [keystore.Store.ExternalUse].
func namesKey(t *tenant.Record, keyID string) bool {
	versionID, external := strings.CutSuffix(keyID, keystore.ExternalSuffix)
	return keyID == t.PlacementKeyID || t.Keys.Match(func(v *keyring.Version) bool {
		return v.KeyID == versionID && v.State != keyring.Destroyed && v.PageKeyDestroyed == external
	}) != nil
}

// open unwraps a key. The caller clears it.
func (m *mover) open(ctx context.Context, keyID string, w *keystore.WrappedKey) ([]byte, error) {
	kek := m.from[w.KEKID]
	if kek == nil {
		var err error
		if kek, err = m.e.keys.OpenKEK(ctx, w.KEKID); err != nil {
			return nil, err
		}
		m.from[w.KEKID] = kek
	}
	return kek.Unwrap(ctx, w.Wrapped, m.bindingOf(keyID, w))
}

// bindingOf returns the place to which the key in an entry belongs.
func (m *mover) bindingOf(keyID string, w *keystore.WrappedKey) keyring.Binding {
	purpose := keyring.PageKey
	switch {
	case strings.HasSuffix(keyID, keystore.ExternalSuffix):
		purpose = keyring.ExternalKey
	case keyID == m.t.PlacementKeyID:
		purpose = keyring.PlacementKey
	}
	return m.t.Owner().Binding(keyID, w.KeyType, purpose)
}

// reasonOf says why a key does not open, and no more than that.
func reasonOf(err error) string {
	switch {
	case errors.Is(err, keystore.ErrGone):
		return "its key-encryption key is not in storage"
	case errors.Is(err, keystore.ErrDamaged):
		return "its key-encryption key is damaged"
	}
	return "it does not open under its key-encryption key"
}
