// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package provider

import (
	"context"
	"fmt"
	"time"

	"github.com/hashicorp/terraform-plugin-framework/diag"
	"github.com/hashicorp/terraform-plugin-framework/tfsdk"
	"github.com/hashicorp/terraform-plugin-framework/types"

	"github.com/vault-plugin-dek/vault-plugin-dek/client"
)

type configModel struct {
	Mount                    types.String `tfsdk:"mount"`
	OrgID                    types.String `tfsdk:"org_id"`
	RotationParallelism      types.Int64  `tfsdk:"rotation_parallelism"`
	MaxItemBytes             types.Int64  `tfsdk:"max_item_bytes"`
	MaxConcurrentRotations   types.Int64  `tfsdk:"max_concurrent_rotations"`
	ManualRotationsPerHour   types.Int64  `tfsdk:"manual_rotations_per_hour"`
	CacheBytes               types.Int64  `tfsdk:"cache_bytes"`
	RetiredKeyRetention      duration     `tfsdk:"retired_key_retention"`
	SchedulerJitter          duration     `tfsdk:"scheduler_jitter"`
	DataKeyLease             duration     `tfsdk:"data_key_lease"`
	KEKRotationInterval      duration     `tfsdk:"kek_rotation_interval"`
	MinDeletionWindow        duration     `tfsdk:"min_deletion_window"`
	MinDeletionWindowInForce duration     `tfsdk:"min_deletion_window_in_force"`
}

// take sets what the engine tells. A lower deletion window that is to come counts as
// written: else the plan would want to lower it again and again until it holds.
func (m *configModel) take(c *client.Config) {
	m.OrgID = types.StringValue(c.OrgID)
	m.RotationParallelism = types.Int64Value(int64(c.RotationParallelism))
	m.MaxItemBytes = types.Int64Value(int64(c.MaxItemBytes))
	m.MaxConcurrentRotations = types.Int64Value(int64(c.MaxConcurrentRotations))
	m.ManualRotationsPerHour = types.Int64Value(int64(c.ManualRotationsPerHour))
	m.CacheBytes = types.Int64Value(int64(c.CacheBytes))
	m.RetiredKeyRetention = durationOf(time.Duration(c.RetiredKeyRetention))
	m.SchedulerJitter = durationOf(time.Duration(c.SchedulerJitter))
	m.DataKeyLease = durationOf(time.Duration(c.DataKeyLease))
	m.KEKRotationInterval = durationOf(time.Duration(c.KEKRotationInterval))
	m.MinDeletionWindowInForce = durationOf(time.Duration(c.MinDeletionWindow))
	m.MinDeletionWindow = m.MinDeletionWindowInForce
	if c.MinDeletionWindowPending != nil {
		m.MinDeletionWindow = durationOf(time.Duration(c.MinDeletionWindowPending.MinDeletionWindow))
	}
}

// change is what differs from was, and nothing else: what this plan does not change may
// have been changed by others since it was read.
func (m *configModel) change(was *configModel) client.ConfigChange {
	c := client.ConfigChange{
		RotationParallelism:    changedNumber(m.RotationParallelism, was.RotationParallelism),
		MaxItemBytes:           changedNumber(m.MaxItemBytes, was.MaxItemBytes),
		MaxConcurrentRotations: changedNumber(m.MaxConcurrentRotations, was.MaxConcurrentRotations),
		ManualRotationsPerHour: changedNumber(m.ManualRotationsPerHour, was.ManualRotationsPerHour),
		CacheBytes:             changedNumber(m.CacheBytes, was.CacheBytes),
		RetiredKeyRetention:    changedDuration(m.RetiredKeyRetention, was.RetiredKeyRetention),
		SchedulerJitter:        changedDuration(m.SchedulerJitter, was.SchedulerJitter),
		DataKeyLease:           changedDuration(m.DataKeyLease, was.DataKeyLease),
		KEKRotationInterval:    changedDuration(m.KEKRotationInterval, was.KEKRotationInterval),
		MinDeletionWindow:      changedDuration(m.MinDeletionWindow, was.MinDeletionWindow),
	}
	if !m.OrgID.IsUnknown() && !m.OrgID.Equal(was.OrgID) {
		c.OrgID = m.OrgID.ValueStringPointer()
	}
	return c
}

func changedNumber(now, was types.Int64) *int {
	if now.IsUnknown() || now.IsNull() || now.Equal(was) {
		return nil
	}
	return new(int(now.ValueInt64()))
}

func changedDuration(now, was duration) *client.Duration {
	if now.sameLength(was) {
		return nil
	}
	return now.sent()
}

// write brings the mount from was to plan, and the state to what the engine answers.
func (r *config) write(ctx context.Context, plan, was configModel, state *tfsdk.State, diags *diag.Diagnostics) {
	c, err := r.Client.Configure(ctx, plan.change(&was))
	if err != nil {
		failed(diags, fmt.Sprintf("The configuration of %s/ was not written", r.path), err)
		return
	}
	if p := c.MinDeletionWindowPending; p != nil {
		diags.AddWarning("A lower min_deletion_window is to come", fmt.Sprintf("%s holds from %s on. Until then it is %s: nobody who gets hold of the configuration can destroy tenants sooner.",
			durationOf(time.Duration(p.MinDeletionWindow)).ValueString(), p.TakesEffectAt.UTC().Format(time.RFC3339), durationOf(time.Duration(c.MinDeletionWindow)).ValueString()))
	}
	plan.Mount = types.StringValue(r.path)
	plan.take(c)
	diags.Append(state.Set(ctx, plan)...)
}
