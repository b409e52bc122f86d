// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package destruction

import (
	"context"
	"errors"

	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/itemstore"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/keyring"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/page"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/tenant"
	"github.com/vault-plugin-dek/vault-plugin-dek/evidence"
)

// DestroyRetired destroys the page keys of t whose retention has ended, once a scan
// shows that no page is on them, and returns their number. A key that a page is on
// after all is kept, and looked at again a day later.
func (e *Engine) DestroyRetired(ctx context.Context, tenantID string) (destroyed int, err error) {
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
	defer func() {
		if errors.Is(err, page.ErrDamaged) { // once the lock is let go
			err = errors.Join(err, e.postpone(ctx, tenantID))
		}
	}()
	err = e.tenants.Hold(ctx, tenantID, func(h *tenant.Held) error {
		t := h.Record()
		if t == nil || t.Incarnation != scan.Incarnation() || t.State != tenant.Active || t.Rotation != nil {
			return nil // its own end looks at the keys
		}
		if err := scan.Run(ctx); err != nil {
			return err
		}
		destroyed, err = e.destroyDue(ctx, h, scan)
		return err
	})
	return destroyed, err
}

// destroyDue destroys the page keys of a tenant whose time has come, but for those
// that the scan has found a page on.
func (e *Engine) destroyDue(ctx context.Context, h *tenant.Held, scan *itemstore.Scan) (destroyed int, err error) {
	t := h.Record()
	next := t.Clone()
	d := Cause{
		Head: evidence.Head{Time: e.now(), Actor: evidence.System}, Why: evidence.WhyRetention, Scanned: scan.Read(),
		External: e.External(ctx, t.Owner()),
	}
	for _, v := range t.Keys.Versions {
		switch {
		case destroyed == MaxDestroyed || next.RoomForEvents() == 0:
			continue // the next round does
		case !e.due(&v) || v.State != keyring.Deactivated:
			continue
		case scan.Pages(v.Number) > 0:
			next.Keys.Find(v.Number).DestroyAfter = e.now().Add(lookAgainAfter)
			continue
		}
		if err := e.Destroy(ctx, next, v, d); err != nil {
			return 0, err
		}
		destroyed++
	}
	return destroyed, h.Put(ctx, next)
}

// due reports whether the page key of a version is to be destroyed by now.
func (e *Engine) due(v *keyring.Version) bool {
	return !v.DestroyAfter.IsZero() && !e.now().Before(v.DestroyAfter)
}

// postpone lets retired keys of a tenant be looked at a day later.
func (e *Engine) postpone(ctx context.Context, tenantID string) error {
	_, err := e.tenants.Update(ctx, tenantID, func(next *tenant.Record) error {
		for i := range next.Keys.Versions {
			if v := &next.Keys.Versions[i]; e.due(v) {
				v.DestroyAfter = e.now().Add(lookAgainAfter)
			}
		}
		return next.Usable()
	})
	return err
}

// Destroy deletes a page key and notes it in next. If something has left the
// engine under the version, its external key stays, and so does the version:
// storage tells, since the key's existence is what external use means. The caller holds
// the tenant's lock exclusively, has made sure that no page is on the version, and puts
// next afterwards.
func (e *Engine) Destroy(ctx context.Context, next *tenant.Record, v keyring.Version, d Cause) error {
	external, err := d.External()
	if err != nil {
		return err
	}
	if !v.PageKeyDestroyed {
		if err := d.log(next, v, evidence.WhichPage); err != nil {
			return err
		}
		if err := e.keys.DestroyKey(ctx, next.Incarnation, v.KeyID); err != nil {
			return err
		}
	}
	if !external[v.KeyID] {
		if err := d.logExternal(next, v); err != nil {
			return err
		}
		if err := e.keys.ForgetSeals(ctx, next.Incarnation, v); err != nil {
			return err
		}
	}
	next.Keys.DestroyPageKey(v.Number, external[v.KeyID], e.now())
	return nil
}
