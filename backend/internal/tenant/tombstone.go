// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package tenant

import (
	"context"
	"time"

	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/actor"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/item"
)

// Tombstone describes a deleted tenant. It holds no secret and no key ID.
type Tombstone struct {
	TenantID  string      `json:"tenant_id"`
	CreatedAt time.Time   `json:"created_at"`
	DeletedAt time.Time   `json:"deleted_at"` // when deletion was asked for
	DeletedBy actor.Actor `json:"deleted_by"`
	Shredded  time.Time   `json:"shredded_at"`
	Versions  int         `json:"versions"` // how many its key had
	Items     item.Counts `json:"items"`
}

// Finalize writes the tombstone of the tenant, then deletes its record, which until
// then brings the work back after a crash.
func (h *Held) Finalize(ctx context.Context, stone Tombstone) error {
	s, t := h.store, h.record
	key := tombstonePrefix + shard(t.ID) + "/" + t.ID + "." + t.Incarnation
	if err := s.mount.PutJSON(ctx, key, stone); err != nil {
		return err
	}
	if err := s.forget(ctx, t.ID); err != nil {
		return err
	}
	h.record = nil
	return nil
}
