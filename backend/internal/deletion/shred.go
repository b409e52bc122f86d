// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package deletion

import (
	"context"
	"errors"
	"maps"
	"slices"

	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/item"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/keyring"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/keystore"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/page"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/storage"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/tenant"
	"github.com/vault-plugin-dek/vault-plugin-dek/evidence"
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
	if err := e.attest(ctx, t); err != nil {
		return err
	}
	return e.tenants.Hold(ctx, tenantID, func(h *tenant.Held) error {
		now := h.Record()
		if now == nil || now.Incarnation != t.Incarnation {
			return nil // done by another try
		}
		return h.Finalize(ctx, tenant.Tombstone{
			TenantID: now.ID, Incarnation: now.Incarnation, DisplayName: now.DisplayName, CreatedAt: now.CreatedAt,
			DeletedAt: now.DeletedAt, DeletedBy: tenant.DeletedBy{ID: now.DeletedBy.ID}, Shredded: now.ShreddedAt, Versions: now.Keys.Next - 1, Items: now.ItemsAtEnd,
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
	for _, id := range t.OwnKEKs() {
		if err := e.keys.DestroyOwnKEK(ctx, t.Incarnation, id); err != nil {
			return err
		}
	}
	if err := e.keys.DestroyOwnKEKs(ctx, t.Incarnation, ""); err != nil {
		return err
	}
	return err
}

// keysAtOnce is of how many versions one Put of a record says that the keys are gone:
// it carries an event for each key.
const keysAtOnce = 32

// attest has the record say that the keys are gone, and the evidence log have that. The
// record goes only then.
func (e *Engine) attest(ctx context.Context, t *tenant.Record) error {
	for {
		var now *tenant.Record
		err := e.tenants.Hold(ctx, t.ID, func(h *tenant.Held) error {
			if r := h.Record(); r == nil || r.Incarnation != t.Incarnation {
				return nil // done by another try
			}
			var err error
			now, err = h.Update(ctx, e.sayGone)
			return err
		})
		if err != nil || now == nil {
			return err
		}
		if err := e.tenants.AwaitLogged(ctx, now); err != nil || !now.ShreddedAt.IsZero() {
			return err
		}
	}
}

// sayGone adds the events of keys that were shredded, up to keysAtOnce versions' and
// with the last of them the tenant's own.
func (e *Engine) sayGone(next *tenant.Record) error {
	if !next.ShreddedAt.IsZero() {
		return tenant.ErrUnchanged
	}
	now := e.now()
	h := evidence.Head{Time: now, Actor: evidence.System}
	gone := func(v keyring.Version, which string) error {
		return next.Carry(h, &evidence.KeyDestroyed{Version: int64(v.Number), KeyID: v.KeyID, Which: which, Why: evidence.WhyShredding})
	}
	said := 0
	for i := range next.Keys.Versions {
		v := &next.Keys.Versions[i]
		if v.State == keyring.Destroyed {
			continue
		}
		if said++; said > keysAtOnce {
			return nil
		}
		if !v.PageKeyDestroyed {
			if err := gone(*v, evidence.WhichPage); err != nil {
				return err
			}
		}
		if slices.Contains(next.ExternalAtEnd, v.KeyID) {
			if err := gone(*v, evidence.WhichExternal); err != nil {
				return err
			}
		}
		v.State, v.DestroyedAt = keyring.Destroyed, now
	}
	if err := gone(keyring.Version{KeyID: next.PlacementKeyID}, evidence.WhichPlacement); err != nil {
		return err
	}
	for _, id := range next.OwnKEKs() {
		if err := gone(keyring.Version{KeyID: id}, evidence.WhichKEK); err != nil {
			return err
		}
	}
	items := evidence.Counts{}
	for kind, n := range next.ItemsAtEnd.Map() {
		items[kind] = int64(n)
	}
	next.ShreddedAt = now
	return next.Carry(h, &evidence.TenantShredded{Items: items, Versions: int64(next.Keys.Next - 1)})
}

// begin puts the record in the state shredding, and returns it; nil if the tenant
// is not to be shredded. A record that is in it already is put as it was read, so that storage
// holds it: an older one, whose Put failed with effect behind Vault's cache, would let a tenant
// be restored whose keys are gone.
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
		if t.State == tenant.Shredding {
			begun = t
			return h.PutAsRead(ctx)
		}
		begun, err = h.Update(ctx, func(next *tenant.Record) error {
			next.State = tenant.Shredding
			next.Rotation = nil // it ends here; its intent is dropped when it is next looked at
			next.ItemsAtEnd = items
			external, err := e.keys.ExternalUse(ctx, t.Owner())
			if storage.IsDamaged(err) {
				return nil // what cannot be listed must not keep the keys
			}
			next.ExternalAtEnd = slices.Sorted(maps.Keys(external))
			return err
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
