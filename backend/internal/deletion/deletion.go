// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

// Package deletion deletes tenants by crypto-shredding: it destroys their keys,
// and with them whatever lies encrypted anywhere, then what lies here.
//
// A tenant that is to be deleted can be restored until its window has passed.
// Then its record goes to the state shredding in one Put, which is the point of
// no return; its keys follow, its pages, its history; its record gives way to a
// tombstone; its hint in the schedule goes last. Each step can be repeated: after
// a crash the hint brings the work back.
package deletion

import (
	"context"
	"errors"
	"time"

	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/store"
)

// Bounds of the time in which a tenant can be restored.
const (
	DefaultWindow = 7 * 24 * time.Hour
	MaxWindow     = 30 * 24 * time.Hour
)

// Engine deletes tenants.
type Engine struct {
	store *store.Store
	now   func() time.Time
}

// NewEngine returns an Engine over s that takes its time from now.
func NewEngine(s *store.Store, now func() time.Time) *Engine { return &Engine{s, now} }

// Schedule lets a tenant be deleted after a window, and returns its record. A
// tenant that is being deleted stays as it is, unless a window is named: then
// that counts from now. It fails with [store.ErrTenantNotFound].
func (e *Engine) Schedule(ctx context.Context, tenantID string, window *time.Duration, by store.Initiator) (*store.Tenant, error) {
	defer e.store.Exclusive(tenantID)()
	t, err := e.present(ctx, tenantID)
	if err != nil {
		return nil, err
	}
	if t.State == store.TenantDeleting && window == nil {
		return t, nil
	}
	after := DefaultWindow
	if window != nil {
		after = *window
	}
	next := t.Clone()
	now := e.now()
	if t.State == store.TenantActive {
		next.DeletedAt, next.DeletedBy = now, by
	}
	next.State = store.TenantDeleting
	next.DeleteAfter = now.Add(after)
	return next, e.store.Commit(ctx, t, next)
}

// Restore brings a tenant back as it was. An active one stays as it is. It fails
// with [store.ErrTenantNotFound], also once the window has passed and the keys
// are being destroyed.
func (e *Engine) Restore(ctx context.Context, tenantID string) (t *store.Tenant, restored bool, err error) {
	defer e.store.Exclusive(tenantID)()
	t, err = e.present(ctx, tenantID)
	if err != nil || t.State == store.TenantActive {
		return t, false, err
	}
	next := t.Clone()
	next.State = store.TenantActive
	next.DeleteAfter, next.DeletedAt, next.DeletedBy = time.Time{}, time.Time{}, store.Initiator{}
	return next, true, e.store.Commit(ctx, t, next)
}

// present reads a record that is active or deleting.
func (e *Engine) present(ctx context.Context, tenantID string) (*store.Tenant, error) {
	t, err := e.store.Tenant(ctx, tenantID)
	if err == nil && t.State == store.TenantShredding {
		err = store.ErrTenantNotFound
	}
	if err != nil {
		return nil, err
	}
	return t, nil
}

// Due reports whether t is to be shredded now.
func Due(t *store.Tenant, now time.Time) bool {
	return t.State == store.TenantShredding ||
		t.State == store.TenantDeleting && !now.Before(t.DeleteAfter)
}

// Shred destroys a tenant whose window has passed, from wherever an earlier try
// has left it. If there is nothing to do it does nothing.
func (e *Engine) Shred(ctx context.Context, tenantID string) error {
	t, err := e.begin(ctx, tenantID)
	if err != nil || t == nil {
		return err
	}
	// Nobody uses the tenant any more: its record says so since it was put under
	// the exclusive lock, which waited for everyone.
	if err := e.store.DestroyAllKeys(ctx, t.Incarnation); err != nil {
		return err
	}
	if err := e.store.DeleteContent(ctx, t.Incarnation); err != nil {
		return err
	}
	defer e.store.Exclusive(tenantID)()
	now, err := e.store.Tenant(ctx, tenantID)
	if errors.Is(err, store.ErrTenantNotFound) {
		return nil // done by another try
	}
	if err != nil || now.Incarnation != t.Incarnation {
		return err
	}
	return e.store.Bury(ctx, now, store.Tombstone{
		TenantID: now.ID, CreatedAt: now.CreatedAt, DeletedAt: now.DeletedAt, DeletedBy: now.DeletedBy,
		Shredded: e.now(), Versions: now.Keys.Next - 1, Items: now.ItemsAtEnd,
	})
}

// begin puts the record in the state shredding, and returns it; nil if the
// tenant is not to be shredded.
func (e *Engine) begin(ctx context.Context, tenantID string) (*store.Tenant, error) {
	items, err := e.count(ctx, tenantID)
	if err != nil {
		return nil, err
	}
	defer e.store.Exclusive(tenantID)()
	t, err := e.store.Tenant(ctx, tenantID)
	if errors.Is(err, store.ErrTenantNotFound) {
		return nil, nil
	}
	if err != nil || !Due(t, e.now()) {
		return nil, err
	}
	if t.State == store.TenantShredding {
		return t, nil
	}
	next := t.Clone()
	next.State = store.TenantShredding
	next.Rotation = nil // it ends here; its intent is dropped when it is next looked at
	next.ItemsAtEnd = items
	return next, e.store.Commit(ctx, t, next)
}

// count counts the items of a tenant that is about to be shredded, for its
// tombstone.
func (e *Engine) count(ctx context.Context, tenantID string) (store.Counts, error) {
	t, err := e.store.Tenant(ctx, tenantID)
	if errors.Is(err, store.ErrTenantNotFound) {
		return store.Counts{}, nil
	}
	if err != nil {
		return store.Counts{}, err
	}
	if t.State != store.TenantDeleting || !Due(t, e.now()) {
		return store.Counts{}, nil
	}
	usage, err := e.store.Usage(ctx, t)
	if errors.Is(err, store.ErrPageDamaged) {
		return store.Counts{}, nil // what cannot be counted must not keep the keys
	}
	return usage.Items(), err
}
