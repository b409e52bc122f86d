// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package ui

import (
	"time"

	"github.com/vault-plugin-dek/vault-plugin-dek/proxy/vault"
)

type counts struct {
	Credentials int64 `json:"credentials"`
	APIKeys     int64 `json:"api_keys"`
	Secrets     int64 `json:"secrets"`
}

// Total is the sum over the kinds.
func (c counts) Total() int64 { return c.Credentials + c.APIKeys + c.Secrets }

type tenantAnswer struct {
	TenantID         string     `json:"tenant_id"`
	DisplayName      string     `json:"display_name"`
	KeyType          string     `json:"key_type"`
	RotationInterval string     `json:"rotation_interval"`
	RotationPaused   bool       `json:"rotation_paused"`
	CreatedAt        *time.Time `json:"created_at"`
	State            string     `json:"state"`
	ItemCounts       counts     `json:"item_counts"`
	LastRotatedAt    *time.Time `json:"last_rotated_at"`
	NextRotationAt   *time.Time `json:"next_rotation_at"`
	DeleteAfter      *time.Time `json:"delete_after"`
	KeyProvider      string     `json:"key_provider"`
}

type version struct {
	Version       int64      `json:"version"`
	KeyID         string     `json:"key_id"`
	KeyType       string     `json:"key_type"`
	State         string     `json:"state"`
	CreatedAt     *time.Time `json:"created_at"`
	ActivatedAt   *time.Time `json:"activated_at"`
	DeactivatedAt *time.Time `json:"deactivated_at"`
	DestroyedAt   *time.Time `json:"destroyed_at"`
	Pages         int64      `json:"pages"`
	RotationID    string     `json:"rotation_id"`
	// Destroyable: the person may, and the version's state allows it.
	Destroyable bool `json:"-"`
}

type dekAnswer struct {
	CurrentVersion       int64     `json:"current_version"`
	CurrentKeyID         string    `json:"current_key_id"`
	MinDecryptionVersion int64     `json:"min_decryption_version"`
	Versions             []version `json:"versions"`
}

type rotation struct {
	RotationID          string     `json:"rotation_id"`
	TenantID            string     `json:"tenant_id"`
	Status              string     `json:"status"`
	Reason              string     `json:"reason"`
	Trigger             string     `json:"trigger"`
	PreviousVersion     int64      `json:"previous_version"`
	NewVersion          int64      `json:"new_version"`
	StartedAt           *time.Time `json:"started_at"`
	UpdatedAt           *time.Time `json:"updated_at"`
	CompletedAt         *time.Time `json:"completed_at"`
	EstimatedCompletion *time.Time `json:"estimated_completion"`
	ItemsToRotate       counts     `json:"items_to_rotate"`
	ItemsRotated        counts     `json:"items_rotated"`
	ItemsFailed         int64      `json:"items_failed"`
	Failures            []struct {
		Page   string `json:"page"`
		Reason string `json:"reason"`
	} `json:"failures"`
	Percent        float64      `json:"percent"`
	ItemsPerSecond float64      `json:"items_per_second"`
	InitiatedBy    vault.Person `json:"initiated_by"`
	WaitingFor     string       `json:"waiting_for"`
}

// Unfinished reports whether it goes on, or can.
func (r *rotation) Unfinished() bool {
	return r.Status == "in_progress" || r.Status == "paused" || r.Status == "rolling_back"
}
