// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package backend

import (
	"context"
	"slices"
	"time"

	"github.com/hashicorp/vault/sdk/framework"
	"github.com/hashicorp/vault/sdk/logical"

	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/store"
)

const (
	// maxOverdueListed is how many overdue tenants status names.
	maxOverdueListed = 100
	// maxRecordsRead bounds the records that one status reads: what lies under
	// days that are past is counted from the index alone.
	maxRecordsRead = 500
)

func (b *backend) statusPaths() []*framework.Path {
	answer := ok("The state of the mount.", map[string]*framework.FieldSchema{
		"tenants":            described(framework.TypeInt, "How many tenants there are."),
		"rotations_active":   described(framework.TypeInt, "Unfinished rotations."),
		"rotations_failed":   described(framework.TypeInt, "Tenants whose latest rotation failed."),
		"overdue":            described(framework.TypeInt, "Tenants whose key is older than it may be, the jitter included."),
		"overdue_tenants":    described(framework.TypeStringSlice, "The first 100 of them, most overdue first."),
		"due_within_7d":      described(framework.TypeInt, "Tenants that become due in the next seven days."),
		"oldest_key_age":     described(framework.TypeInt, "Seconds since the oldest active key took over."),
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
	tenants, err := b.store.CountTenants(ctx)
	if err != nil {
		return nil, err
	}
	active, err := b.unfinished(ctx)
	if err != nil {
		return nil, err
	}
	failed, err := b.store.FailedTenants(ctx)
	if err != nil {
		return nil, err
	}
	p, err := b.schedule.plan(ctx)
	if err != nil {
		return nil, err
	}
	c := census{b: b, plan: p}
	if err := c.take(ctx); err != nil {
		return nil, err
	}
	return &logical.Response{Data: map[string]any{
		"tenants":            tenants,
		"rotations_active":   len(active),
		"rotations_failed":   len(failed),
		"overdue":            c.overdue,
		"overdue_tenants":    c.mostOverdue(),
		"due_within_7d":      c.soon,
		"oldest_key_age":     int64(c.oldest.Seconds()),
		"scheduler_last_run": timeValue(b.schedule.ranAt()),
		"as_of":              timeValue(p.now),
	}}, nil
}

// census counts who is due when, from the index: the days tell of most tenants
// enough, and the records of the others are read.
type census struct {
	b    *backend
	plan plan

	read    int
	overdue int
	late    []lateTenant
	soon    int
	oldest  time.Duration
}

type lateTenant struct {
	id  string
	due time.Time
}

// take goes through the days of both indexes, the earliest first.
func (c *census) take(ctx context.Context) error {
	now, week := c.plan.now, c.plan.now.AddDate(0, 0, 7)
	interval := store.IntervalLength(c.plan.settings.RotationInterval)
	for _, x := range []struct {
		index store.Index
		shift time.Duration // from the day of the index to the day on which one is due
	}{{store.RotatedOn, interval}, {store.DueOn, 0}} {
		day, err := c.b.store.Floor(ctx, x.index)
		if err != nil {
			return err
		}
		if day == "" {
			continue
		}
		last := store.DayOf(week.Add(-x.shift))
		// The oldest key is under the first day that is not empty, due or not.
		for ; day <= last || c.oldest == 0 && day <= store.DayOf(now); day = store.NextDay(day) {
			past := store.DayOf(now.Add(-x.shift - c.plan.jitter))
			if err := c.day(ctx, x.index, day, day < past, day <= last); err != nil {
				return err
			}
		}
	}
	return nil
}

// day counts the tenants under one day. Beyond what is read of them, all of a day
// are overdue, or due soon, or neither.
func (c *census) day(ctx context.Context, i store.Index, day string, overdue, soon bool) error {
	shards, err := c.b.store.HintShards(ctx, i, day)
	if err != nil {
		return err
	}
	for _, part := range shards {
		ids, err := c.b.store.HintedTenants(ctx, i, day, part)
		if err != nil {
			return err
		}
		for _, id := range ids {
			if c.read == maxRecordsRead {
				c.guess(overdue, soon)
				continue
			}
			c.read++
			if err := c.tenant(ctx, store.Hint{Index: i, Day: day, TenantID: id}); err != nil {
				return err
			}
		}
	}
	return nil
}

// guess counts a tenant by its day alone.
func (c *census) guess(overdue, soon bool) {
	switch {
	case overdue:
		c.overdue++
	case soon:
		c.soon++
	}
}

func (c *census) tenant(ctx context.Context, h store.Hint) error {
	t, err := c.b.store.ActiveTenant(ctx, h.TenantID)
	if err != nil || !t.Wants(h) {
		return nil //nolint:nilerr // it is going, or the hint is one too many: not counted
	}
	now := c.plan.now
	c.oldest = max(c.oldest, now.Sub(t.LastRotatedAt()))
	due := t.DueDate(c.plan.settings)
	switch {
	case due.Add(c.plan.jitter).Before(now):
		c.overdue++
		c.late = append(c.late, lateTenant{t.ID, due})
	case due.Before(now.AddDate(0, 0, 7)):
		c.soon++
	}
	return nil
}

func (c *census) mostOverdue() []string {
	slices.SortFunc(c.late, func(a, b lateTenant) int { return a.due.Compare(b.due) })
	ids := make([]string, 0, maxOverdueListed)
	for _, l := range c.late[:min(len(c.late), maxOverdueListed)] {
		ids = append(ids, l.id)
	}
	return ids
}
