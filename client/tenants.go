// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package client

import (
	"context"
	"net/http"
	"net/url"
	"time"
)

// Tenant is one tenant of the engine. It is safe for concurrent use.
type Tenant struct {
	c  *Client
	id string
}

// Tenant names a tenant, which need not exist yet. It fails with [ErrTenantID].
func (c *Client) Tenant(id string) (*Tenant, error) {
	if !uuidPattern.MatchString(id) {
		return nil, ErrTenantID
	}
	return &Tenant{c, id}, nil
}

// ID is the tenant's ID.
func (t *Tenant) ID() string { return t.id }

func (t *Tenant) path(rest string) string { return "tenants/" + t.id + rest }

// TenantInfo is what the engine tells about a tenant.
type TenantInfo struct {
	ID               string         `json:"tenant_id"`
	DisplayName      string         `json:"display_name"`
	KeyType          string         `json:"key_type"`          // of the active version
	RotationInterval string         `json:"rotation_interval"` // empty: the organization's
	RotationPaused   bool           `json:"rotation_paused"`
	CreatedAt        time.Time      `json:"created_at"`
	State            string         `json:"state"`        // active or deleting
	ItemCounts       map[string]int `json:"item_counts"`  // by credentials, api_keys, secrets
	KeyProvider      string         `json:"key_provider"` // of a KEK of its own; empty: the mount's KEK wraps its keys
	CurrentKeyID     string         `json:"current_key_id"`
	LastRotatedAt    *time.Time     `json:"last_rotated_at"`  // nil: never
	NextRotationAt   *time.Time     `json:"next_rotation_at"` // nil: not by the schedule
	DeleteAfter      *time.Time     `json:"delete_after"`     // nil: it is not being deleted
}

// TenantSettings are the settings that a write changes: those that are not nil.
type TenantSettings struct {
	DisplayName      *string `json:"display_name,omitempty"`
	KeyType          *string `json:"key_type,omitempty"` // xaes256-gcm or aes256-gcm; of a new tenant only
	RotationInterval *string `json:"rotation_interval,omitempty"`
	RotationPaused   *bool   `json:"rotation_paused,omitempty"`
	KeyProvider      *string `json:"key_provider,omitempty"` // of a new tenant only
	MustExist        bool    `json:"must_exist,omitempty"`   // a write that would create is [ErrNotFound]
}

// Tenants lists the IDs of tenants, sorted.
func (c *Client) Tenants(ctx context.Context, p Page) ([]string, error) {
	return c.list(ctx, "list tenants", "tenants", p)
}

// Write creates the tenant, or changes its settings. It may be repeated: the same
// settings once more change nothing.
func (t *Tenant) Write(ctx context.Context, s TenantSettings) (*TenantInfo, error) {
	info := new(TenantInfo)
	err := t.c.do(ctx, call{op: "write tenant", method: http.MethodPut, path: t.path(""), body: s}, info)
	return orNil(info, err)
}

// Read reads the tenant's settings and state.
func (t *Tenant) Read(ctx context.Context) (*TenantInfo, error) {
	info := new(TenantInfo)
	err := t.c.do(ctx, call{op: "read tenant", method: http.MethodGet, path: t.path("")}, info)
	return orNil(info, err)
}

// Delete schedules that the tenant's keys are destroyed once window has passed,
// nil for the engine's default. A window of 0 destroys them at once. It is not
// repeated when its outcome is unknown: by then the ID may be a new tenant's.
func (t *Tenant) Delete(ctx context.Context, window *time.Duration) error {
	query := url.Values{}
	if window != nil {
		query.Set("deletion_window", window.String())
	}
	return t.c.do(ctx, call{op: "delete tenant", method: http.MethodDelete, path: t.path(""), query: query, repeat: ifRefused}, nil)
}

// Restore brings a tenant back that is being deleted. It is not repeated when its
// outcome is unknown: somebody may have deleted the tenant again.
func (t *Tenant) Restore(ctx context.Context) (*TenantInfo, error) {
	info := new(TenantInfo)
	err := t.c.do(ctx, call{op: "restore tenant", method: http.MethodPut, path: t.path("/restore"), repeat: ifRefused}, info)
	return orNil(info, err)
}

// orNil gives no half-filled value beside an error.
func orNil[T any](value *T, err error) (*T, error) {
	if err != nil {
		return nil, err
	}
	return value, nil
}
