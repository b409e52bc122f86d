// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package client

import (
	"context"
	"crypto/rand"
	"net/http"
	"time"
)

// Config is the mount's configuration.
type Config struct {
	OrgID                  string   `json:"org_id"`
	RetiredKeyRetention    Duration `json:"retired_key_retention"`
	RotationParallelism    int      `json:"rotation_parallelism"`
	MaxItemBytes           int      `json:"max_item_bytes"`
	MaxConcurrentRotations int      `json:"max_concurrent_rotations"`
	SchedulerJitter        Duration `json:"scheduler_jitter"`
	MinDeletionWindow      Duration `json:"min_deletion_window"`   // what holds now
	KEKRotationInterval    Duration `json:"kek_rotation_interval"` // 0: by hand alone
	ManualRotationsPerHour int      `json:"manual_rotations_per_hour"`
	DataKeyLease           Duration `json:"data_key_lease"` // 0: a data key is for one text only
	CacheBytes             int      `json:"cache_bytes"`    // 0: chosen by the machine's memory
	// MinDeletionWindowPending is the lower one that is to come; nil: none is.
	MinDeletionWindowPending *PendingWindow `json:"min_deletion_window_pending"`
}

// PendingWindow is a lower least deletion window before it holds.
type PendingWindow struct {
	MinDeletionWindow Duration  `json:"min_deletion_window"`
	TakesEffectAt     time.Time `json:"takes_effect_at"`
}

// ConfigChange is what a write of the configuration changes: what is not nil.
type ConfigChange struct {
	OrgID                  *string   `json:"org_id,omitempty"`
	RetiredKeyRetention    *Duration `json:"retired_key_retention,omitempty"`
	RotationParallelism    *int      `json:"rotation_parallelism,omitempty"`
	MaxItemBytes           *int      `json:"max_item_bytes,omitempty"`
	MaxConcurrentRotations *int      `json:"max_concurrent_rotations,omitempty"`
	SchedulerJitter        *Duration `json:"scheduler_jitter,omitempty"`
	MinDeletionWindow      *Duration `json:"min_deletion_window,omitempty"` // raising holds at once
	KEKRotationInterval    *Duration `json:"kek_rotation_interval,omitempty"`
	ManualRotationsPerHour *int      `json:"manual_rotations_per_hour,omitempty"`
	DataKeyLease           *Duration `json:"data_key_lease,omitempty"`
	CacheBytes             *int      `json:"cache_bytes,omitempty"`
}

// Config reads the mount's configuration.
func (c *Client) Config(ctx context.Context) (*Config, error) {
	out := new(Config)
	return orNil(out, c.do(ctx, call{op: "read config", method: http.MethodGet, path: "config"}, out))
}

// Configure changes the mount's configuration.
func (c *Client) Configure(ctx context.Context, change ConfigChange) (*Config, error) {
	out := new(Config)
	return orNil(out, c.do(ctx, call{op: "write config", method: http.MethodPut, path: "config", body: change}, out))
}

// RotationSettings say how old keys may get.
type RotationSettings struct {
	OrgID                  string   `json:"org_id"`
	ValidRotationIntervals []string `json:"valid_rotation_intervals"`
	RotationInterval       string   `json:"rotation_interval"`
}

const rotationSettingsPath = "key/rotationSettings"

// RotationSettings reads the organization's rotation settings.
func (c *Client) RotationSettings(ctx context.Context) (*RotationSettings, error) {
	out := new(RotationSettings)
	return orNil(out, c.do(ctx, call{op: "read rotation settings", method: http.MethodGet, path: rotationSettingsPath}, out))
}

// SetRotationInterval sets the organization's interval, one of the valid ones.
func (c *Client) SetRotationInterval(ctx context.Context, interval string) (*RotationSettings, error) {
	out := new(RotationSettings)
	return orNil(out, c.do(ctx, call{
		op: "write rotation settings", method: http.MethodPut, path: rotationSettingsPath,
		body: map[string]string{"rotation_interval": interval},
	}, out))
}

// Status is how the fleet is doing.
type Status struct {
	Tenants int `json:"tenants"`
	// IndexComplete says that every record has been read since the engine started. Until
	// then counts are lower bounds.
	IndexComplete   bool              `json:"index_complete"`
	IndexRead       int               `json:"index_read"` // records
	RotationsActive int               `json:"rotations_active"`
	RotationsFailed int               `json:"rotations_failed"` // tenants whose latest rotation failed
	FailedTenants   []string          `json:"failed_tenants"`   // the first 100, as of all lists here
	Overdue         int               `json:"overdue"`
	OverdueTenants  []string          `json:"overdue_tenants"` // the most overdue first
	Paused          int               `json:"paused"`
	PausedTenants   []string          `json:"paused_tenants"`
	PausedOverdue   int               `json:"paused_overdue"` // would be overdue
	Blocked         int               `json:"blocked"`
	BlockedTenants  map[string]string `json:"blocked_tenants"` // the reason by ID
	DueWithin7Days  int               `json:"due_within_7d"`
	OldestKeyAge    Duration          `json:"oldest_key_age"`
	OldestKeyTenant string            `json:"oldest_key_tenant"` // empty: there is none
	KEKAge          *Duration         `json:"kek_age"`           // nil: there is none, or its age is not known
	KEKOverdue      bool              `json:"kek_overdue"`
	Providers       map[string]string `json:"providers"`        // state by name
	EvidenceSize    int               `json:"evidence_size"`    // entries of the log
	EvidencePending int               `json:"evidence_pending"` // events that wait for the log
	// DamagedEntries are entries of storage that cannot be read: how many, by kind, such as
	// pages.
	DamagedEntries   map[string]int `json:"damaged_entries,omitempty"`
	SchedulerLastRun *time.Time     `json:"scheduler_last_run"`
	AsOf             time.Time      `json:"as_of"`
}

// Status reads how the fleet is doing.
func (c *Client) Status(ctx context.Context) (*Status, error) {
	out := new(Status)
	return orNil(out, c.do(ctx, call{op: "read status", method: http.MethodGet, path: "status"}, out))
}

// UnfinishedRotations lists the unfinished rotations of all tenants, as <tenant_id>/<rotation_id>.
func (c *Client) UnfinishedRotations(ctx context.Context, p Page) ([]string, error) {
	return c.list(ctx, "list unfinished rotations", "rotations", p)
}

// ManyRotations asks for the rotation of many tenants: of all, or of those named.
type ManyRotations struct {
	All           bool     `json:"all,omitempty"`
	Tenants       []string `json:"tenants,omitempty"` // up to 10,000 IDs
	Reason        string   `json:"reason,omitempty"`
	IncludePaused bool     `json:"include_paused,omitempty"` // those, too, that the schedule passes over
}

// Scheduled is how many tenants are due now, and how many were passed over.
type Scheduled struct {
	Scheduled     int `json:"scheduled"`
	SkippedPaused int `json:"skipped_paused"`
}

// RotateMany makes many tenants due now: after a leak, say. It is not repeated
// when its outcome is unknown: tenants that were rotated by then would be rotated
// again.
func (c *Client) RotateMany(ctx context.Context, r ManyRotations) (*Scheduled, error) {
	out := new(Scheduled)
	return orNil(out, c.do(ctx, call{op: "rotate keys", method: http.MethodPut, path: "rotations", body: r, repeat: ifRefused}, out))
}

// KEK is the mount's key-encryption key and its latest rotation.
type KEK struct {
	ID            string     `json:"kek_id"`
	CreatedAt     *time.Time `json:"created_at"`
	Provider      string     `json:"provider"`    // empty: it lies in Vault's storage
	State         string     `json:"state"`       // of the provider: ok, unavailable or denied
	LeaseUntil    *time.Time `json:"lease_until"` // nil: without end, or not open
	WaitingFor    string     `json:"waiting_for"` // the provider that a rotation waits for
	OlderIDs      []string   `json:"older_kek_ids"`
	Status        string     `json:"status"` // not_rotated, in_progress, completed or failed
	PreviousKEKID string     `json:"previous_kek_id"`
	Reason        string     `json:"reason"`
	StartedAt     *time.Time `json:"started_at"`
	CompletedAt   *time.Time `json:"completed_at"`
	Percent       float64    `json:"percent"`
	Tenants       int        `json:"tenants"`
	Keys          int        `json:"keys"`
	KeysFailed    int        `json:"keys_failed"`
	InitiatedBy   Person     `json:"initiated_by"`
}

// KEK reads which key-encryption key is in use, and how its rotation goes.
func (c *Client) KEK(ctx context.Context) (*KEK, error) {
	out := new(KEK)
	return orNil(out, c.do(ctx, call{op: "read key-encryption key", method: http.MethodGet, path: "kek"}, out))
}

// RotateKEK starts a rotation of the key-encryption key. The attempts of one call
// share an idempotency key.
func (c *Client) RotateKEK(ctx context.Context, reason string) (*KEK, error) {
	out := new(KEK)
	return orNil(out, c.do(ctx, call{
		op: "rotate key-encryption key", method: http.MethodPut, path: "kek/rotate",
		body: map[string]string{"reason": reason, "idempotency_key": rand.Text()},
	}, out))
}

// WrappingKey is the public key, PEM, under which keys are wrapped for
// [Tenant.Import].
func (c *Client) WrappingKey(ctx context.Context) (string, error) {
	var answer struct {
		PublicKey string `json:"public_key"`
	}
	err := c.do(ctx, call{op: "read wrapping key", method: http.MethodGet, path: "wrapping_key"}, &answer)
	return answer.PublicKey, err
}

// RotateWrappingKey makes another wrapping key and returns it. What was wrapped under the
// former one is taken until the time returned, which is zero if there was none.
func (c *Client) RotateWrappingKey(ctx context.Context) (publicKey string, formerUntil time.Time, err error) {
	var answer struct {
		PublicKey   string     `json:"public_key"`
		FormerUntil *time.Time `json:"former_until"`
	}
	err = c.do(ctx, call{op: "rotate wrapping key", method: http.MethodPut, path: "wrapping_key/rotate", repeat: ifRefused}, &answer)
	if answer.FormerUntil != nil {
		formerUntil = *answer.FormerUntil
	}
	return answer.PublicKey, formerUntil, err
}
