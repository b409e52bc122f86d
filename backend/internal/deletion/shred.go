// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package deletion

import (
	"context"
	"errors"

	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/item"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/keystore"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/page"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/storage"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/tenant"
)

// Shred destroys a tenant whose window has passed. It goes on where an earlier attempt
// stopped, and does nothing if there is nothing to do.
func (e *Engine) Shred(ctx context.Context, tenantID string) error {
	return e.shred(ctx, tenantID, func() {})
}

// shred is Shred, and calls keysGone once no key of the tenant is left.
func (e *Engine) shred(ctx context.Context, tenantID string, keysGone func()) error {
	t, err := e.begin(ctx, tenantID)
	if err != nil || t == nil {
		return err
	}
	// Nobody uses the tenant any more: its record says so since it was put under
	// the exclusive lock, which waited for everyone.
	if err := e.destroyKeys(ctx, t); err != nil {
		return err
	}
	keysGone()
	if err := e.deleteContent(ctx, t.Incarnation); err != nil {
		return err
	}
	return e.tenants.Hold(ctx, tenantID, func(h *tenant.Held) error {
		now := h.Record()
		if now == nil || now.Incarnation != t.Incarnation {
			return nil // done by another try
		}
		return h.Finalize(ctx, tenant.Tombstone{
			TenantID: now.ID, Incarnation: now.Incarnation, DisplayName: now.DisplayName, CreatedAt: now.CreatedAt,
			DeletedAt: now.DeletedAt, DeletedBy: tenant.DeletedBy{ID: now.DeletedBy.ID}, Shredded: e.now(), Versions: now.Keys.Next - 1, Items: now.ItemsAtEnd,
			Requests: now.DeleteRequests,
		})
	})
}

// destroyKeys deletes all keys of t. If they cannot be listed, those that the record
// names go, and it fails with [storage.ErrDamaged]: there may be others.
func (e *Engine) destroyKeys(ctx context.Context, t *tenant.Record) error {
	err := e.keys.DestroyAllKeys(ctx, t.Incarnation)
	if !storage.IsDamaged(err) {
		return err
	}
	ids := []string{t.PlacementKeyID}
	for i := range t.Keys.Versions {
		id := t.Keys.Versions[i].KeyID
		ids = append(ids, id, id+keystore.ExternalSuffix)
	}
	for _, id := range ids {
		if err := e.keys.DestroyKey(ctx, t.Incarnation, id); err != nil {
			return err
		}
	}
	return err
}

// begin puts the record in the state shredding, and returns it; nil if the tenant
// is not to be shredded.
func (e *Engine) begin(ctx context.Context, tenantID string) (*tenant.Record, error) {
	items, err := e.count(ctx, tenantID)
	if err != nil {
		return nil, err
	}
	var begun *tenant.Record
	err = e.tenants.Hold(ctx, tenantID, func(h *tenant.Held) error {
		t := h.Record()
		if t == nil || !Due(t, e.now()) {
			return nil
		}
		begun, err = h.Update(ctx, func(next *tenant.Record) error {
			if next.State == tenant.Shredding {
				return tenant.ErrUnchanged
			}
			next.State = tenant.Shredding
			next.Rotation = nil // it ends here; its intent is dropped when it is next looked at
			next.ItemsAtEnd = items
			return nil
		})
		return err
	})
	return begun, err
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
	if errors.Is(err, page.ErrDamaged) || storage.IsDamaged(err) {
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
	if err := e.tenants.DeleteExternalUse(ctx, incarnation); err != nil {
		return err
	}
	return e.tenants.DeleteProgress(ctx, incarnation)
}
