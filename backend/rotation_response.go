// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package backend

import (
	"context"

	"github.com/hashicorp/vault/sdk/framework"
	"github.com/hashicorp/vault/sdk/logical"

	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/api"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/rotation"
)

// rotationAnswer describes the rotation object.
var rotationAnswer = map[string]*framework.FieldSchema{
	"rotation_id":          api.Described(framework.TypeString, "The rotation's ID."),
	"tenant_id":            api.Described(framework.TypeString, "The tenant's ID."),
	"previous_key_id":      api.Described(framework.TypeString, "The key that is left."),
	"new_key_id":           api.Described(framework.TypeString, "The key that takes over."),
	"previous_version":     api.Described(framework.TypeInt, "The version that is left."),
	"new_version":          api.Described(framework.TypeInt, "The version that takes over."),
	"reason":               api.Described(framework.TypeString, "Why, as the request had it."),
	"status":               api.Described(framework.TypeString, "in_progress, paused, rolling_back, completed, rolled_back or failed."),
	"started_at":           api.Described(framework.TypeTime, "When it started."),
	"updated_at":           api.Described(framework.TypeTime, "When a page last moved."),
	"completed_at":         api.Described(framework.TypeTime, "When it ended; null: it has not."),
	"estimated_completion": api.Described(framework.TypeTime, "When it may end; null: it has."),
	"items_to_rotate":      api.Described(framework.TypeMap, "The items there were at the start, by kind."),
	"items_rotated":        api.Described(framework.TypeMap, "How many of them are off the old key, by kind."),
	"items_failed":         api.Described(framework.TypeInt, "Items on pages that did not open."),
	"failures":             api.Described(framework.TypeSlice, "The first 100 such pages, each with its reason."),
	"percent":              api.Described(framework.TypeFloat, "Rotated of those to rotate, 0 to 100."),
	"items_per_second":     api.Described(framework.TypeFloat, "How fast it goes, or went."),
	"initiated_by":         api.Described(framework.TypeMap, "Who asked: id, name, email."),
	"waiting_for":          api.Described(framework.TypeString, "The key provider that an unfinished rotation waits for; null: none."),
	"trigger":              api.Described(framework.TypeString, "manual, requested (by a request for many) or scheduled."),
}

func (b *backend) rotationResponse(ctx context.Context, v rotation.View) *logical.Response {
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
		"started_at":           api.Time(v.StartedAt),
		"updated_at":           api.Time(v.UpdatedAt),
		"completed_at":         api.Time(v.EndedAt),
		"estimated_completion": api.Time(v.EstimatedCompletion),
		"items_to_rotate":      v.ToRotate.Map(),
		"items_rotated":        v.Rotated.Map(),
		"items_failed":         v.Failed,
		"failures":             failures,
		"percent":              v.Percent,
		"items_per_second":     v.ItemsPerSecond,
		"initiated_by":         b.Person(ctx, v.InitiatedBy),
		"trigger":              v.Trigger,
		"waiting_for":          api.TextOrNull(v.WaitingFor),
	}}
}
