// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package vault

import "time"

// Token is a Vault token as a login returned it.
type Token struct {
	Value string
	// Lease is how long the token lives; zero means not to keep it.
	Lease time.Duration
	// EntityID is the entity that Vault takes the caller for; empty: none.
	EntityID string
	// Revocable tells a service token from a batch token.
	Revocable bool
}

// Alias is what Vault knows of a caller at the JWT auth method. Vault finds it by a
// name whose case is folded, and policies are templated with its metadata.
type Alias struct {
	Name     string            `json:"name"`
	Mount    string            `json:"mount_path"`
	Metadata map[string]string `json:"metadata"`
}

// User is a caller that logged in with a password.
type User struct {
	Token    Token
	Username string
}

// Counts holds a number for each kind of item.
type Counts struct {
	Credentials int64 `json:"credentials"`
	APIKeys     int64 `json:"api_keys"`
	Secrets     int64 `json:"secrets"`
}

// Person is who started a rotation.
type Person struct {
	ID    string `json:"id"`
	Name  string `json:"name"`
	Email string `json:"email"`
}

// Rotation is the engine's rotation object, as far as the proxy shows it.
type Rotation struct {
	RotationID          string     `json:"rotation_id"`
	TenantID            string     `json:"tenant_id"`
	Status              string     `json:"status"`
	PreviousKeyID       string     `json:"previous_key_id"`
	NewKeyID            string     `json:"new_key_id"`
	StartedAt           *time.Time `json:"started_at"`
	CompletedAt         *time.Time `json:"completed_at"`
	EstimatedCompletion *time.Time `json:"estimated_completion"`
	ItemsToRotate       Counts     `json:"items_to_rotate"`
	ItemsRotated        Counts     `json:"items_rotated"`
	ItemsFailed         int64      `json:"items_failed"`
	Percent             float64    `json:"percent"`
	InitiatedBy         Person     `json:"initiated_by"`
}

// Settings is the organization's rotation settings.
type Settings struct {
	OrgID                  string   `json:"org_id"`
	ValidRotationIntervals []string `json:"valid_rotation_intervals"`
	RotationInterval       string   `json:"rotation_interval"`
}

func (s *Settings) complete() bool {
	return s.OrgID != "" && s.RotationInterval != "" && len(s.ValidRotationIntervals) > 0
}

// Health is what Vault says of itself.
type Health struct {
	Initialized bool
	Sealed      bool
	Standby     bool
	// DRSecondary is a replica for disaster recovery: it serves nobody.
	DRSecondary bool
	// Leaderless is a standby that knows of no active node to forward to.
	Leaderless bool
	Version    string
}
