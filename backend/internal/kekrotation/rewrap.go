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

	ids []string // of the keys that a List has shown
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
	return e.rewrap(ctx, t, mount, func(to *keyring.KEK) error {
		if to.ID != kekID {
			return keystore.ErrKEKChanged
		}
		return nil
	})
}

// span says whose KEKs a rotation is of: the mount's, or one tenant's own.
type span int

const (
	mount span = iota // what is on KEKs of the mount moves, to the current one
	own               // everything moves: to the KEK of the tenant's own, or the mount's
)

// rewrap moves the keys of a tenant whose lock is held exclusively. check is called for the
// KEK that they are moved to.
func (e *Engine) rewrap(ctx context.Context, t *tenant.Record, s span, check func(to *keyring.KEK) error) (Rewrapped, error) {
	ids, err := e.keys.List(ctx, t.Incarnation)
	if storage.IsDamaged(err) {
		return Rewrapped{Failures: []keystore.KeyFailure{{TenantID: t.ID, Reason: "the tenant's keys cannot be listed"}}}, nil
	}
	if err != nil {
		return Rewrapped{}, err
	}
	target := ""
	if s == own {
		target = t.KEKID()
	}
	to, release, err := e.keys.CurrentKEK(ctx, t.Owner(), target)
	if s == own && errors.Is(err, keystore.ErrDamaged) {
		return Rewrapped{Failures: []keystore.KeyFailure{{TenantID: t.ID, Reason: reasonOf(err)}}}, nil
	}
	if err != nil {
		return Rewrapped{}, err
	}
	defer release()
	if err := check(to); err != nil {
		return Rewrapped{}, err
	}
	m := mover{e: e, t: t, span: s, to: to, from: map[string]*keyring.KEK{}}
	for _, id := range ids {
		if err := m.move(ctx, id); err != nil {
			return m.did, err
		}
	}
	m.did.ids = ids
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
	span span
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
	if m.span == mount && keystore.IsOwnKEK(w.KEKID) {
		return m.leave(ctx, keyID, w)
	}
	key, err := m.open(ctx, keyID, w)
	if keystore.CannotOpen(err) || errors.Is(err, keyring.ErrUnwrap) {
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

// leave leaves a key where it is, on a KEK of the tenant's own. If that is not the one that
// the record names, a move is under way or has failed: then the entry is put as it was read.
// A Put of it that failed may have moved the key to a KEK of the mount that this rotation
// destroys, behind a stale cache. Nothing is opened for that, so that no provider of a tenant
// holds up the mount's rotation.
func (m *mover) leave(ctx context.Context, keyID string, w *keystore.WrappedKey) error {
	if w.KEKID == m.t.KEKID() {
		return nil
	}
	return m.e.keys.PutAsRead(ctx, m.t.Incarnation, keyID, w)
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
		if kek, err = m.e.keys.OpenKEK(ctx, keystore.PlaceOf(m.t.Owner(), w.KEKID)); err != nil {
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
