// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package backend

import (
	"github.com/hashicorp/vault/sdk/framework"
	"github.com/hashicorp/vault/sdk/logical"

	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/rotation"
)

// rotationAnswer describes the rotation object.
var rotationAnswer = map[string]*framework.FieldSchema{
	"rotation_id":          described(framework.TypeString, "The rotation's ID."),
	"tenant_id":            described(framework.TypeString, "The tenant's ID."),
	"previous_key_id":      described(framework.TypeString, "The key that is left."),
	"new_key_id":           described(framework.TypeString, "The key that takes over."),
	"previous_version":     described(framework.TypeInt, "The version that is left."),
	"new_version":          described(framework.TypeInt, "The version that takes over."),
	"reason":               described(framework.TypeString, "Why, as the request had it."),
	"status":               described(framework.TypeString, "in_progress, paused, rolling_back, completed, rolled_back or failed."),
	"started_at":           described(framework.TypeTime, "When it started."),
	"updated_at":           described(framework.TypeTime, "When a page last moved."),
	"completed_at":         described(framework.TypeTime, "When it ended; null: it has not."),
	"estimated_completion": described(framework.TypeTime, "When it may end; null: it has."),
	"items_to_rotate":      described(framework.TypeMap, "The items there were at the start, by kind."),
	"items_rotated":        described(framework.TypeMap, "How many of them are off the old key, by kind."),
	"items_failed":         described(framework.TypeInt, "Items on pages that did not open."),
	"failures":             described(framework.TypeSlice, "The first 100 such pages, each with its reason."),
	"percent":              described(framework.TypeFloat, "Rotated of those to rotate, 0 to 100."),
	"items_per_second":     described(framework.TypeFloat, "How fast it goes, or went."),
	"initiated_by":         described(framework.TypeMap, "Who asked: id, name, email."),
	"trigger":              described(framework.TypeString, "manual, requested (by a request for many) or scheduled."),
}

func rotationResponse(v rotation.View) *logical.Response {
	failures := make([]map[string]any, 0, len(v.Failures))
	for _, f := range v.Failures {
		failures = append(failures, map[string]any{"page": f.Page, "reason": f.Reason})
	}
	return &logical.Response{Data: map[string]any{
		"rotation_id":          v.ID,
		"tenant_id":            v.TenantID,
		"previous_key_id":      v.FromKeyID,
		"new_key_id":           v.ToKeyID,
		"previous_version":     v.From,
		"new_version":          v.To,
		"reason":               v.Reason,
		"status":               v.Status,
		"started_at":           timeValue(v.StartedAt),
		"updated_at":           timeValue(v.UpdatedAt),
		"completed_at":         timeValue(v.EndedAt),
		"estimated_completion": timeValue(v.EstimatedCompletion),
		"items_to_rotate":      v.ToRotate.Map(),
		"items_rotated":        v.Rotated.Map(),
		"items_failed":         v.Failed,
		"failures":             failures,
		"percent":              v.Percent,
		"items_per_second":     v.ItemsPerSecond,
		"initiated_by": map[string]any{
			"id": v.InitiatedBy.ID, "name": v.InitiatedBy.Name, "email": v.InitiatedBy.Email,
		},
		"trigger": v.Trigger,
	}}
}
