// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

// Package fleet has the paths about many tenants at once: the list of tenants, the view
// of the fleet for people, and the tombstones of tenants that were deleted. It reads and
// changes nothing. The record of a tenant that cannot be read must not keep the others
// from being shown.
package fleet

import (
	"github.com/hashicorp/vault/sdk/framework"

	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/api"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/schedule"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/tenant"
)

// maxDetailed bounds the tenants that one answer describes: each costs a read.
const maxDetailed = 1000

// Rooms has what the paths need. The schedule is asked for when a request comes: it is
// made after the paths are.
type Rooms struct {
	*api.Operations

	Tenants  *tenant.Store
	Schedule func() *schedule.Engine
}

// Paths returns the paths.
func (r *Rooms) Paths() []*framework.Path {
	return append(r.tombstonePaths(), r.tenantsPath(), r.fleetPath())
}

// infoHelp describes what key_info has of a tenant.
const infoHelp = "Of each tenant, by ID: display_name, state (active, deleting), current_version, last_rotated_at " +
	"(null: never), next_rotation_at (null: the schedule passes it over), overdue, rotation_paused, rotation_id and " +
	"rotation_status of the latest rotation (empty: there was none), key_provider (empty: the mount's KEK). " +
	"error, if its record cannot be read."

// info describes a tenant among many.
func info(o *schedule.Overview) map[string]any {
	described := map[string]any{
		"display_name":     o.DisplayName,
		"state":            string(o.State),
		"current_version":  o.CurrentVersion,
		"last_rotated_at":  api.Time(o.LastRotatedAt),
		"next_rotation_at": api.Time(o.NextRotationAt),
		"overdue":          o.Overdue,
		"rotation_paused":  o.RotationPaused,
		"rotation_id":      o.RotationID,
		"rotation_status":  o.RotationStatus,
		"key_provider":     o.KeyProvider,
	}
	if o.Err != nil {
		described["error"] = "the tenant's record cannot be read"
	}
	return described
}
