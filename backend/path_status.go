// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package backend

import (
	"context"

	"github.com/hashicorp/vault/sdk/framework"
	"github.com/hashicorp/vault/sdk/logical"

	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/api"
)

func (b *backend) statusPaths() []*framework.Path {
	answer := api.OK("The state of the mount.", map[string]*framework.FieldSchema{
		"tenants":            api.Described(framework.TypeInt, "How many tenants there are."),
		"index_complete":     api.Described(framework.TypeBool, "Whether every tenant's record has been read since the engine started. Until then, counts are lower bounds."),
		"index_read":         api.Described(framework.TypeInt, "How many records have been read since the engine started."),
		"rotations_active":   api.Described(framework.TypeInt, "Unfinished rotations."),
		"rotations_failed":   api.Described(framework.TypeInt, "Tenants whose latest rotation failed."),
		"failed_tenants":     api.Described(framework.TypeStringSlice, "The first 100 of them, by ID."),
		"overdue":            api.Described(framework.TypeInt, "Tenants whose key is older than it may be, the jitter included, or that are still to be rotated after all=true."),
		"overdue_tenants":    api.Described(framework.TypeStringSlice, "The first 100 of them, most overdue first."),
		"paused":             api.Described(framework.TypeInt, "Tenants that the schedule passes over: rotation_paused."),
		"paused_tenants":     api.Described(framework.TypeStringSlice, "The first 100 of them, by ID."),
		"paused_overdue":     api.Described(framework.TypeInt, "Tenants that would be overdue if they were not paused."),
		"blocked":            api.Described(framework.TypeInt, "Tenants that cannot be rotated as they are."),
		"blocked_tenants":    api.Described(framework.TypeMap, "The first 100 of them: the reason, by ID."),
		"damaged_entries":    {Type: framework.TypeMap, Description: "Entries of storage that were found not to be readable: how many, by what their keys begin with. Missing if there are none."},
		"due_within_7d":      api.Described(framework.TypeInt, "Tenants that become due in the next seven days."),
		"oldest_key_age":     api.Described(framework.TypeInt, "Seconds since the oldest active key took over."),
		"oldest_key_tenant":  api.Described(framework.TypeString, "Whose key that is; empty: there is none."),
		"kek_age":            api.Described(framework.TypeInt, "Seconds since the key-encryption key was made; null: there is none, or that is not known."),
		"kek_overdue":        api.Described(framework.TypeBool, "Whether it is older than it may get."),
		"providers":          api.Described(framework.TypeMap, "The state of each key provider, by name: ok, unavailable or denied, by the latest call."),
		"evidence_size":      api.Described(framework.TypeInt, "How many entries the evidence log has; 0 until it is open."),
		"evidence_pending":   api.Described(framework.TypeInt, "How many events wait for the evidence log."),
		"scheduler_last_run": api.Described(framework.TypeTime, "When the schedule last looked; null: not since the engine started."),
		"as_of":              api.Described(framework.TypeTime, "When this was."),
	})
	return []*framework.Path{{
		Pattern: "status$",
		Operations: map[logical.Operation]framework.OperationHandler{
			logical.ReadOperation: b.On(b.readStatus, "read status", "Read how the fleet is doing.", answer),
		},
		HelpSynopsis: "How the fleet is doing.",
		HelpDescription: "Counts over all tenants, from the schedule's index in memory. From storage it reads one entry, " +
			"that of the key-encryption key, and answers without that if it cannot be read.",
	}}
}

func (b *backend) readStatus(ctx context.Context, _ *logical.Request, _ *framework.FieldData) (*logical.Response, error) {
	s, err := b.schedule.Status(ctx)
	if err != nil {
		return nil, err
	}
	resp := &logical.Response{}
	kek, err := b.kek.Age(ctx)
	var kekAge any
	if !kek.Since.IsZero() {
		kekAge = int64(kek.Age.Seconds())
	}
	if err != nil {
		resp.AddWarning("kek_age and kek_overdue are missing: the key-encryption key's record cannot be read")
	}
	resp.Data = map[string]any{
		"tenants":            s.Tenants,
		"index_complete":     s.Complete,
		"index_read":         s.Read,
		"rotations_active":   s.Unfinished,
		"rotations_failed":   s.Failed,
		"failed_tenants":     s.FailedTenants,
		"overdue":            s.Overdue,
		"overdue_tenants":    s.OverdueTenants,
		"paused":             s.Paused,
		"paused_tenants":     s.PausedTenants,
		"paused_overdue":     s.PausedOverdue,
		"blocked":            s.Blocked,
		"blocked_tenants":    s.BlockedTenants,
		"due_within_7d":      s.DueWithin7Days,
		"oldest_key_age":     int64(s.OldestKeyAge.Seconds()),
		"oldest_key_tenant":  s.OldestKeyTenant,
		"kek_age":            kekAge,
		"kek_overdue":        kek.Overdue,
		"providers":          b.providerPaths.States(ctx),
		"evidence_size":      b.evidence.Size(),
		"evidence_pending":   b.ledger.Pending(),
		"scheduler_last_run": api.Time(s.LastRun),
		"as_of":              api.Time(s.AsOf),
	}
	if len(s.Damaged) > 0 {
		resp.Data["damaged_entries"] = s.Damaged
	}
	return resp, nil
}
