// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package schedule

import (
	"context"
	"errors"
	"maps"
	"slices"

	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/dueindex"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/intents"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/page"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/storage"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/tenant"
)

// isDamaged reports whether err says that an entry of a tenant's is damaged. That is
// told by status, and is no trouble of the round.
func isDamaged(err error) bool {
	return storage.IsDamaged(err) || errors.Is(err, tenant.ErrDamaged) || errors.Is(err, page.ErrDamaged)
}

// blockDamaged notes that a tenant cannot be served because of a damaged entry. It is
// visited again. The visit itself may have put its record.
func (e *Engine) blockDamaged(tenantID string, err error) {
	e.index.Block(e.index.VisitOf(tenantID), err.Error())
	if told, _ := e.loggedDamage.Swap(tenantID, err.Error()); told != err.Error() {
		e.log.Error("the schedule cannot serve a tenant", "tenant_id", tenantID, "error", err)
	}
}

// addDamaged adds the tenants whose rotation cannot go on to those that are blocked.
func (e *Engine) addDamaged(s *Status) {
	s.Damaged = e.mount.Damaged()
	reasons := e.rotations.Damaged()
	for _, id := range slices.Sorted(maps.Keys(reasons)) {
		if e.index.IsBlocked(id) {
			continue
		}
		s.Blocked++
		if len(s.BlockedTenants) < dueindex.MaxListed {
			s.BlockedTenants[id] = reasons[id]
		}
	}
}

// Unfinished returns the unfinished rotations that the records tell of, as far as the
// index knows them. The write-ahead log lists them as well, unless an entry of it is
// damaged.
func (e *Engine) Unfinished(ctx context.Context) (all []intents.Intent, err error) {
	ids := e.index.Unfinished()
	found := make([]*tenant.Record, len(ids))
	err = storage.Each(ctx, len(ids), func(n int) (err error) {
		found[n], err = e.tenants.Read(ctx, ids[n])
		if errors.Is(err, tenant.ErrNotFound) || isDamaged(err) {
			return nil
		}
		return err
	})
	for _, t := range found {
		if t != nil && t.Rotation != nil {
			all = append(all, intents.Of(t))
		}
	}
	return all, err
}
