// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package client

import (
	"context"
	"net/http"
	"time"
)

// TenantSummary is how a tenant and its key stand, as lists of many tenants tell it.
type TenantSummary struct {
	ID             string         `json:"tenant_id"`
	DisplayName    string         `json:"display_name"`
	State          string         `json:"state"` // active or deleting
	CurrentVersion int            `json:"current_version"`
	LastRotatedAt  *time.Time     `json:"last_rotated_at"`  // nil: never
	NextRotationAt *time.Time     `json:"next_rotation_at"` // nil: not by the schedule
	Overdue        bool           `json:"overdue"`
	RotationPaused bool           `json:"rotation_paused"`
	RotationID     string         `json:"rotation_id"`     // the latest; empty: there was none
	RotationStatus RotationStatus `json:"rotation_status"` // of the latest
	KeyProvider    string         `json:"key_provider"`    // empty: Vault's storage
	Error          string         `json:"error"`           // not empty: the tenant's record cannot be read
}

// MaxDetailed is how many tenants one call describes.
const MaxDetailed = 1000

// TenantsInDetail describes tenants, sorted by ID. The page must have a limit, of
// [MaxDetailed] at most. A tenant that went while the engine looked has only its ID.
func (c *Client) TenantsInDetail(ctx context.Context, p Page) ([]TenantSummary, error) {
	keys, info, err := listInfo[TenantSummary](ctx, c, "list tenants", "tenants", p, "detailed", "true")
	if err != nil {
		return nil, err
	}
	all := make([]TenantSummary, len(keys))
	for i, id := range keys {
		all[i] = info[id]
		all[i].ID = id
	}
	return all, nil
}

// Tombstone is what is kept of a tenant that was shredded.
type Tombstone struct {
	Incarnation string         `json:"incarnation"`
	DisplayName string         `json:"display_name"`
	CreatedAt   time.Time      `json:"created_at"`
	DeletedAt   time.Time      `json:"deleted_at"` // when deletion was asked for
	ShreddedAt  time.Time      `json:"shredded_at"`
	DeletedBy   Person         `json:"deleted_by"` // the ID alone
	Items       map[string]int `json:"items"`      // by credentials, api_keys, secrets
	Versions    int            `json:"versions"`   // how many keys were destroyed
}

// ShreddedTenants lists the IDs of tenants that were shredded, sorted.
func (c *Client) ShreddedTenants(ctx context.Context, p Page) ([]string, error) {
	return c.list(ctx, "list tombstones", "tombstones", p)
}

// Tombstones reads what is kept of the tenants of this ID that were shredded, newest
// first. If there are none it fails with [ErrNotFound].
func (t *Tenant) Tombstones(ctx context.Context) ([]Tombstone, error) {
	var answer struct {
		Tombstones []Tombstone `json:"tombstones"`
	}
	err := t.c.do(ctx, call{op: "read tombstones", method: http.MethodGet, path: "tombstones/" + t.id}, &answer)
	return answer.Tombstones, err
}
