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

	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/actor"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/item"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/itemstore"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/keystore"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/page"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/tenant"
)

// Bounds of the time in which a tenant can be restored.
const (
	DefaultWindow = 7 * 24 * time.Hour
	MaxWindow     = 30 * 24 * time.Hour
)

// Engine deletes tenants.
type Engine struct {
	keys    *keystore.Store
	tenants *tenant.Store
	items   *itemstore.Store
	now     func() time.Time
}

// NewEngine returns an Engine over the stores of one mount that takes its time
// from now.
func NewEngine(k *keystore.Store, t *tenant.Store, items *itemstore.Store, now func() time.Time) *Engine {
	return &Engine{k, t, items, now}
}

// Schedule lets a tenant be deleted after a window, and returns its record. A
// tenant that is being deleted stays as it is, unless a window is named: then
// that counts from now. It fails with [tenant.ErrNotFound].
func (e *Engine) Schedule(ctx context.Context, tenantID string, window *time.Duration, by actor.Actor) (*tenant.Record, error) {
	defer e.tenants.Exclusive(tenantID)()
	t, err := e.present(ctx, tenantID)
	if err != nil {
		return nil, err
	}
	if t.State == tenant.Deleting && window == nil {
		return t, nil
	}
	after := DefaultWindow
	if window != nil {
		after = *window
	}
	next := t.Clone()
	now := e.now()
	if t.State == tenant.Active {
		next.DeletedAt, next.DeletedBy = now, by
	}
	next.State = tenant.Deleting
	next.DeleteAfter = now.Add(after)
	return next, e.tenants.Commit(ctx, t, next)
}

// Restore brings a tenant back as it was. An active one stays as it is. It fails
// with [tenant.ErrNotFound], also once the window has passed and the keys
// are being destroyed.
func (e *Engine) Restore(ctx context.Context, tenantID string) (t *tenant.Record, restored bool, err error) {
	defer e.tenants.Exclusive(tenantID)()
	t, err = e.present(ctx, tenantID)
	if err != nil || t.State == tenant.Active {
		return t, false, err
	}
	next := t.Clone()
	next.State = tenant.Active
	next.DeleteAfter, next.DeletedAt, next.DeletedBy = time.Time{}, time.Time{}, actor.Actor{}
	return next, true, e.tenants.Commit(ctx, t, next)
}

// present reads a record that is active or deleting.
func (e *Engine) present(ctx context.Context, tenantID string) (*tenant.Record, error) {
	t, err := e.tenants.Read(ctx, tenantID)
	if err == nil && t.State == tenant.Shredding {
		err = tenant.ErrNotFound
	}
	if err != nil {
		return nil, err
	}
	return t, nil
}

// Due reports whether t is to be shredded now.
func Due(t *tenant.Record, now time.Time) bool {
	return t.State == tenant.Shredding ||
		t.State == tenant.Deleting && !now.Before(t.DeleteAfter)
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
	if err := e.keys.DestroyAllKeys(ctx, t.Incarnation); err != nil {
		return err
	}
	if err := e.deleteContent(ctx, t.Incarnation); err != nil {
		return err
	}
	defer e.tenants.Exclusive(tenantID)()
	now, err := e.tenants.Read(ctx, tenantID)
	if errors.Is(err, tenant.ErrNotFound) {
		return nil // done by another try
	}
	if err != nil || now.Incarnation != t.Incarnation {
		return err
	}
	return e.tenants.Finalize(ctx, now, tenant.Tombstone{
		TenantID: now.ID, CreatedAt: now.CreatedAt, DeletedAt: now.DeletedAt, DeletedBy: now.DeletedBy,
		Shredded: e.now(), Versions: now.Keys.Next - 1, Items: now.ItemsAtEnd,
	})
}

// begin puts the record in the state shredding, and returns it; nil if the
// tenant is not to be shredded.
func (e *Engine) begin(ctx context.Context, tenantID string) (*tenant.Record, error) {
	items, err := e.count(ctx, tenantID)
	if err != nil {
		return nil, err
	}
	defer e.tenants.Exclusive(tenantID)()
	t, err := e.tenants.Read(ctx, tenantID)
	if errors.Is(err, tenant.ErrNotFound) {
		return nil, nil
	}
	if err != nil || !Due(t, e.now()) {
		return nil, err
	}
	if t.State == tenant.Shredding {
		return t, nil
	}
	next := t.Clone()
	next.State = tenant.Shredding
	next.Rotation = nil // it ends here; its intent is dropped when it is next looked at
	next.ItemsAtEnd = items
	return next, e.tenants.Commit(ctx, t, next)
}

// count counts the items of a tenant that is about to be shredded, for its
// tombstone.
func (e *Engine) count(ctx context.Context, tenantID string) (item.Counts, error) {
	t, err := e.tenants.Read(ctx, tenantID)
	if errors.Is(err, tenant.ErrNotFound) {
		return item.Counts{}, nil
	}
	if err != nil {
		return item.Counts{}, err
	}
	if t.State != tenant.Deleting || !Due(t, e.now()) {
		return item.Counts{}, nil
	}
	usage, err := e.items.Usage(ctx, t)
	if errors.Is(err, page.ErrDamaged) {
		return item.Counts{}, nil // what cannot be counted must not keep the keys
	}
	return usage.Items(), err
}

// deleteContent deletes what is left of an incarnation without keys.
func (e *Engine) deleteContent(ctx context.Context, incarnation string) error {
	if err := e.items.DeleteAll(ctx, incarnation); err != nil {
		return err
	}
	if err := e.tenants.DeleteHistory(ctx, incarnation); err != nil {
		return err
	}
	if err := e.keys.ForgetAllSeals(ctx, incarnation); err != nil {
		return err
	}
	return e.tenants.DeleteProgress(ctx, incarnation)
}
