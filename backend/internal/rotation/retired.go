// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package rotation

import (
	"context"
	"errors"

	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/itemstore"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/keyring"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/page"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/tenant"
)

// DestroyRetired destroys the page keys of t whose time has come, once a scan
// shows that no page is on them, and returns how many. A key that a page is on
// after all is kept, and looked at again a day later.
func (e *Engine) DestroyRetired(ctx context.Context, tenantID string) (int, error) {
	t, err := e.tenants.Read(ctx, tenantID)
	if err != nil {
		return 0, err
	}
	// Reading every page takes its time: before the lock. Under it only pages
	// that came since are read.
	scan := itemstore.NewScan(e.items, t)
	err = scan.Run(ctx)
	if errors.Is(err, page.ErrDamaged) {
		return 0, errors.Join(err, e.postpone(ctx, tenantID))
	}
	if err != nil {
		return 0, err
	}
	defer e.tenants.Exclusive(tenantID)()
	t, err = e.tenants.Read(ctx, tenantID)
	if err != nil {
		return 0, err
	}
	if t.Incarnation != scan.Incarnation() || t.State != tenant.Active || t.Rotation != nil {
		return 0, nil // its own end looks at the keys
	}
	if err := scan.Run(ctx); err != nil {
		return 0, err
	}
	return e.destroyDue(ctx, t, scan)
}

// destroyDue destroys the page keys of t whose time has come, but for those that
// the scan has found a page on. The caller holds the tenant's lock exclusively.
func (e *Engine) destroyDue(ctx context.Context, t *tenant.Record, scan *itemstore.Scan) (destroyed int, err error) {
	next := t.Clone()
	for _, v := range t.Keys.Versions {
		switch {
		case !e.due(&v) || v.State != keyring.Deactivated:
			continue
		case scan.Pages(v.Number) > 0:
			next.Keys.Find(v.Number).DestroyAfter = e.now().Add(Backoff)
			continue
		}
		if err := e.destroy(ctx, next, v); err != nil {
			return 0, err
		}
		destroyed++
	}
	return destroyed, e.tenants.Commit(ctx, t, next)
}

// due reports whether the page key of a version is to be destroyed by now.
func (e *Engine) due(v *keyring.Version) bool {
	return !v.DestroyAfter.IsZero() && !e.now().Before(v.DestroyAfter)
}

// postpone lets retired keys of t be looked at a day later.
func (e *Engine) postpone(ctx context.Context, tenantID string) error {
	defer e.tenants.Exclusive(tenantID)()
	t, err := e.tenants.Active(ctx, tenantID)
	if err != nil {
		return err
	}
	next := t.Clone()
	for i := range next.Keys.Versions {
		if v := &next.Keys.Versions[i]; e.due(v) {
			v.DestroyAfter = e.now().Add(Backoff)
		}
	}
	return e.tenants.Commit(ctx, t, next)
}

// destroy deletes a page key and notes it in next. If something has left the
// engine under the version, its external key stays, and so does the version:
// storage tells, since the key's existence is what external use means.
func (e *Engine) destroy(ctx context.Context, next *tenant.Record, v keyring.Version) error {
	external, err := e.keys.ExternalUse(ctx, next.Owner())
	if err != nil {
		return err
	}
	if !v.PageKeyDestroyed {
		if err := e.keys.DestroyKey(ctx, next.Incarnation, v.KeyID); err != nil {
			return err
		}
	}
	if !external[v.KeyID] {
		if err := e.keys.ForgetSeals(ctx, next.Incarnation, v); err != nil {
			return err
		}
	}
	next.Keys.DestroyPageKey(v.Number, external[v.KeyID], e.now())
	return nil
}
