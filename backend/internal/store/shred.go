// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package store

import (
	"context"
	"errors"
	"time"
)

// Tombstone is what remains of a tenant: no secret, and no key ID.
type Tombstone struct {
	TenantID  string    `json:"tenant_id"`
	CreatedAt time.Time `json:"created_at"`
	DeletedAt time.Time `json:"deleted_at"` // when deletion was asked for
	DeletedBy Initiator `json:"deleted_by"`
	Shredded  time.Time `json:"shredded_at"`
	Versions  int       `json:"versions"` // how many its key had
	Items     Counts    `json:"items"`
}

// DestroyAllKeys deletes the entries of all keys of an incarnation, those too
// that its record does not know.
func (s *Store) DestroyAllKeys(ctx context.Context, incarnation string) error {
	ids, err := s.mount.List(ctx, keysOf(incarnation))
	if err != nil {
		return err
	}
	for _, id := range ids {
		if err := ctx.Err(); err != nil {
			return err // what is left comes after the restart
		}
		if err := s.DestroyKey(ctx, incarnation, id); err != nil {
			return err
		}
	}
	return nil
}

// DeleteContent deletes the pages, the history, the progress and the counts of an
// incarnation, and forgets what is in memory of it.
func (s *Store) DeleteContent(ctx context.Context, incarnation string) error {
	for _, prefix := range []string{pagesOf(incarnation), historyOf(incarnation), sealsOf(incarnation)} {
		if err := s.mount.DeleteBelow(ctx, prefix); err != nil {
			return err
		}
	}
	s.tenants.forget(incarnation)
	return s.mount.Delete(ctx, progressKey(incarnation))
}

// Bury writes the tombstone of t, deletes its record, and last its hints, which
// until then bring the work back after a crash. The caller holds the tenant's
// lock exclusively.
func (s *Store) Bury(ctx context.Context, t *Tenant, stone Tombstone) error {
	key := tombstonePrefix + shard(t.ID) + "/" + t.ID + "." + t.Incarnation
	if err := s.mount.PutJSON(ctx, key, stone); err != nil {
		return err
	}
	if err := s.forgetTenant(ctx, t.ID); err != nil {
		return err
	}
	var errs []error
	for _, h := range t.Hints() {
		errs = append(errs, s.deleteHint(ctx, h))
	}
	return errors.Join(errs...)
}

// forget drops what is in memory of an incarnation that is no more.
func (r *registry) forget(incarnation string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if w := r.open[incarnation]; w != nil {
		w.dir.drop()
		w.mu.Lock()
		clear(w.placement)
		w.placement = nil
		w.mu.Unlock()
		delete(r.open, incarnation)
	}
}
