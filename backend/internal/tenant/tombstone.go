// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package tenant

import (
	"context"
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/item"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/storage"
)

// keepTombstones bounds the tombstones of one ID that are kept.
const keepTombstones = 100

// Tombstone describes a tenant that was shredded. It holds no secret, no key ID, and of
// the person who asked only the ID: names and emails would be kept for ever.
type Tombstone struct {
	TenantID    string      `json:"tenant_id"`
	Incarnation string      `json:"incarnation"`
	DisplayName string      `json:"display_name,omitempty"`
	CreatedAt   time.Time   `json:"created_at"`
	DeletedAt   time.Time   `json:"deleted_at"` // when deletion was asked for
	DeletedBy   DeletedBy   `json:"deleted_by"`
	Shredded    time.Time   `json:"shredded_at"`
	Versions    int         `json:"versions"` // how many its key had
	Items       item.Counts `json:"items"`
	// Requests identifies the latest requests for the deletion ([actor.RequestDigest]).
	Requests []string `json:"requests,omitempty"`
}

// DeletedBy identifies the person who asked for a deletion, by the ID alone.
type DeletedBy struct {
	ID string `json:"id"`
}

// Finalize writes the tombstone of the tenant, then deletes its record, which until
// then brings the work back after a crash. Of the ID's tombstones the newest 100 stay.
func (h *Held) Finalize(ctx context.Context, stone Tombstone) error {
	s, t := h.store, h.record
	err := s.mount.PutJSON(ctx, tombstoneOf(t.ID)+t.Incarnation, stone)
	s.tombstones.note(t.ID, true, err)
	if err != nil {
		return err
	}
	if err := s.dropTombstones(ctx, t.ID); err != nil {
		return err
	}
	if err := s.forget(ctx, t.ID); err != nil {
		return err
	}
	h.record = nil
	return nil
}

// dropTombstones deletes the oldest tombstones of an ID beyond the last 100. Those that
// cannot be read stay, and keep no tenant from going.
func (s *Store) dropTombstones(ctx context.Context, tenantID string) error {
	incarnations, err := s.shreddedIncarnations(ctx, tenantID)
	if err != nil || len(incarnations) <= keepTombstones {
		return err
	}
	stones, _ := s.readTombstones(ctx, tenantID, incarnations)
	for over := len(incarnations) - keepTombstones; over > 0 && len(stones) > 0; over-- {
		oldest := stones[len(stones)-1]
		if err := s.mount.Delete(ctx, tombstoneOf(tenantID)+oldest.Incarnation); err != nil {
			return err
		}
		stones = stones[:len(stones)-1]
	}
	return nil
}

// Tombstones reads the tombstones of an ID, newest first; none if no tenant of that ID
// was shredded. With an error it returns those that can be read.
func (s *Store) Tombstones(ctx context.Context, tenantID string) ([]Tombstone, error) {
	incarnations, err := s.shreddedIncarnations(ctx, tenantID)
	if err != nil {
		return nil, err
	}
	return s.readTombstones(ctx, tenantID, incarnations)
}

// HadDeleted reports whether a request ([actor.RequestDigest]) has had a tenant of that
// ID deleted: a tombstone says so. The tenant's lock is held. Tombstones that cannot be
// read say nothing.
func (h *Held) HadDeleted(ctx context.Context, request string) (bool, error) {
	stones, err := h.store.Tombstones(ctx, h.id)
	for _, stone := range stones {
		if slices.Contains(stone.Requests, request) {
			return true, nil
		}
	}
	if storage.IsDamaged(err) {
		err = nil
	}
	return false, err
}

// TombstoneIDs lists the IDs that have tombstones, as [Store.IDs] lists tenants.
func (s *Store) TombstoneIDs(ctx context.Context, after string, limit int) ([]string, error) {
	all, err := s.allParts(ctx, &s.tombstones, tombstonePrefix)
	if err != nil {
		return nil, err
	}
	return sorted(all, after, limit), nil
}

// shreddedIncarnations lists the incarnations of an ID that have tombstones.
func (s *Store) shreddedIncarnations(ctx context.Context, tenantID string) (incarnations []string, err error) {
	names, err := s.mount.List(ctx, tombstonePrefix+shard(tenantID)+"/")
	for _, name := range names {
		if incarnation, own := strings.CutPrefix(name, tenantID+"."); own {
			incarnations = append(incarnations, incarnation)
		}
	}
	return incarnations, err
}

func (s *Store) readTombstones(ctx context.Context, tenantID string, incarnations []string) ([]Tombstone, error) {
	stones := make([]Tombstone, 0, len(incarnations))
	var errs []error
	for _, incarnation := range incarnations {
		stone := Tombstone{Incarnation: incarnation} // older entries have it in their name alone
		found, err := s.mount.GetJSON(ctx, tombstoneOf(tenantID)+incarnation, &stone)
		switch {
		case err != nil:
			errs = append(errs, err)
		case found:
			stones = append(stones, stone)
		}
	}
	slices.SortStableFunc(stones, func(a, b Tombstone) int { return b.Shredded.Compare(a.Shredded) })
	return stones, errors.Join(errs...)
}

// tombstoneOf is what the keys of an ID's tombstones begin with.
func tombstoneOf(tenantID string) string {
	return tombstonePrefix + shard(tenantID) + "/" + tenantID + "."
}
