// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package client

import (
	"context"
	"net/http"
	"net/url"
	"strconv"
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

// FleetQuery asks for a part of the fleet. The zero value asks for the first 100 tenants,
// the most overdue first.
type FleetQuery struct {
	Search string // what the ID or the display name begins with
	State  string // overdue, failed, paused, blocked or deleting; empty: any
	Sort   string // overdue, name or age; empty: overdue
	Page          // a limit of [MaxDetailed] at most; After is the ID of the last tenant of the part before
}

// Fleet is a part of the fleet, and figures of the whole.
type Fleet struct {
	Tenants []TenantSummary `json:"tenants"` // fewer than the limit: this is the last part
	KeyAges []struct {
		FromDays int  `json:"from_days"`
		ToDays   *int `json:"to_days"` // nil: no end
		Tenants  int  `json:"tenants"`
	} `json:"key_ages"`
	DueByWeek []struct {
		From    *time.Time `json:"from"` // nil: due already
		To      *time.Time `json:"to"`   // nil: later than a year
		Tenants int        `json:"tenants"`
	} `json:"due_by_week"`
}

// Fleet reads a part of the fleet.
func (c *Client) Fleet(ctx context.Context, q FleetQuery) (*Fleet, error) {
	query := url.Values{}
	for name, value := range map[string]string{"search": q.Search, "state": q.State, "sort": q.Sort, "after": q.After} {
		if value != "" {
			query.Set(name, value)
		}
	}
	if q.Limit > 0 {
		query.Set("limit", strconv.Itoa(q.Limit))
	}
	out := new(Fleet)
	return orNil(out, c.do(ctx, call{op: "read fleet", method: http.MethodGet, path: "fleet", query: query}, out))
}

// Metrics reads the mount's metrics, as Prometheus text.
func (c *Client) Metrics(ctx context.Context) (string, error) {
	var text string
	err := c.do(ctx, call{op: "read metrics", method: http.MethodGet, path: "metrics", raw: true}, &text)
	return text, err
}
