// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package backend

import (
	"context"

	"github.com/hashicorp/vault/sdk/framework"
	"github.com/hashicorp/vault/sdk/logical"

	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/tenant"
)

const (
	// maxOverdueListed is how many overdue tenants status names.
	maxOverdueListed = 100
	// maxRecordsRead bounds the records that one status reads to tell who is due,
	// and again for the oldest key: the rest is told by the days alone.
	maxRecordsRead = 500
	// readsInFlight bounds what one status reads from storage at once.
	readsInFlight = 32
)

func (b *backend) statusPaths() []*framework.Path {
	answer := ok("The state of the mount.", map[string]*framework.FieldSchema{
		"tenants":            described(framework.TypeInt, "How many tenants there are."),
		"rotations_active":   described(framework.TypeInt, "Unfinished rotations."),
		"rotations_failed":   described(framework.TypeInt, "Tenants whose latest rotation failed."),
		"overdue":            described(framework.TypeInt, "Tenants whose key is older than it may be, the jitter included, or that are still to be rotated after all=true."),
		"overdue_tenants":    described(framework.TypeStringSlice, "The first 100 of them, most overdue first."),
		"due_within_7d":      described(framework.TypeInt, "Tenants that become due in the next seven days."),
		"oldest_key_age":     described(framework.TypeInt, "Seconds since the oldest active key took over; less by up to a day if over 500 keys are of the same first day."),
		"scheduler_last_run": described(framework.TypeTime, "When the schedule last looked; null: not since the engine started."),
		"as_of":              described(framework.TypeTime, "When this was."),
	})
	return []*framework.Path{{
		Pattern: "status$",
		Operations: map[logical.Operation]framework.OperationHandler{
			logical.ReadOperation: b.on(b.readStatus, "read status", "Read how the fleet is doing.", answer),
		},
		HelpSynopsis:    "How the fleet is doing.",
		HelpDescription: "Counts over all tenants, from the schedule's index: no tenant's secrets are read for it.",
	}}
}

func (b *backend) readStatus(ctx context.Context, _ *logical.Request, _ *framework.FieldData) (*logical.Response, error) {
	tenants, err := b.tenants.Count(ctx)
	if err != nil {
		return nil, err
	}
	active, err := b.unfinished(ctx)
	if err != nil {
		return nil, err
	}
	failed, err := b.tenants.CountHints(ctx, tenant.FailedNow, tenant.AnyDay)
	if err != nil {
		return nil, err
	}
	p, err := b.schedule.plan(ctx)
	if err != nil {
		return nil, err
	}
	c := census{b: b, plan: p, oldest: p.now}
	if err := c.take(ctx, active); err != nil {
		return nil, err
	}
	return &logical.Response{Data: map[string]any{
		"tenants":            tenants,
		"rotations_active":   len(active),
		"rotations_failed":   failed,
		"overdue":            c.overdue,
		"overdue_tenants":    c.mostOverdue(),
		"due_within_7d":      c.soon,
		"oldest_key_age":     int64(p.now.Sub(c.oldest).Seconds()),
		"scheduler_last_run": timeValue(b.schedule.ranAt()),
		"as_of":              timeValue(p.now),
	}}, nil
}
