// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package backend

import (
	"context"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/settings"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/tenant"
)

// census counts who is due when, and finds the oldest key, from the schedule's
// index: the days tell of most tenants enough, and the records of some are read.
type census struct {
	b    *backend
	plan plan

	read    int
	overdue int
	late    []lateTenant
	soon    int
	oldest  time.Time // when the oldest active key took over; now, if there is none
}

type lateTenant struct {
	id  string
	due time.Time
}

func (c *census) take(ctx context.Context, unfinished []string) error {
	for _, count := range []func(context.Context) error{c.dueOnes, c.firstDays} {
		if err := count(ctx); err != nil {
			return err
		}
	}
	// Tenants with an unfinished rotation are in no index of ages.
	ids := make([]string, 0, len(unfinished))
	for _, key := range unfinished {
		id, _, _ := strings.Cut(key, "/")
		ids = append(ids, id)
	}
	records, err := c.records(ctx, ids)
	if err != nil {
		return err
	}
	for _, t := range records {
		if t != nil {
			c.sawKey(t)
		}
	}
	return nil
}

// dueOnes goes through the days of both indexes of dates, the earliest first.
func (c *census) dueOnes(ctx context.Context) error {
	now, week := c.plan.now, c.plan.now.AddDate(0, 0, 7)
	interval := settings.IntervalLength(c.plan.settings.RotationInterval)
	for _, x := range []struct {
		index tenant.Index
		shift time.Duration // from the day of the index to the day on which one is due
	}{{tenant.RotatedOn, interval}, {tenant.DueOn, 0}} {
		day, err := c.b.tenants.Floor(ctx, x.index)
		if err != nil {
			return err
		}
		if day == "" {
			continue
		}
		last := max(tenant.DayOf(week.Add(-x.shift)), c.plan.lastAsked(x.index))
		past := tenant.DayOf(now.Add(-x.shift - c.plan.jitter))
		if x.index == tenant.RotatedOn {
			past = max(past, c.plan.lastAsked(x.index))
		}
		for ; day <= last; day = tenant.NextDay(day) {
			some, total, err := c.hinted(ctx, x.index, day, maxRecordsRead-c.read)
			if err != nil {
				return err
			}
			if err := c.dueOn(ctx, some, total, day < past); err != nil {
				return err
			}
		}
	}
	// As long as it is not certain that everyone has been rotated, some may not
	// have been.
	if !c.plan.settings.RotateBefore.IsZero() {
		c.overdue = max(c.overdue, 1)
	}
	return nil
}

// dueOn counts the tenants of one day. Those whose records are not read are all
// overdue, if the day is past, or else divided as those are that are read.
func (c *census) dueOn(ctx context.Context, some []tenant.Hint, total int, past bool) error {
	c.read += len(some)
	records, err := c.wanting(ctx, some)
	if err != nil {
		return err
	}
	overdue, soon := 0, 0
	for _, t := range records {
		due := t.DueDate(c.plan.settings)
		switch {
		case due.Add(c.plan.jitter).Before(c.plan.now) || c.plan.asked(t):
			overdue++
			c.late = append(c.late, lateTenant{t.ID, due})
		case due.Before(c.plan.now.AddDate(0, 0, 7)):
			soon++
		}
	}
	c.overdue += overdue
	c.soon += soon
	switch rest := total - len(some); {
	case rest == 0:
	case past:
		c.overdue += rest
	case len(some) == 0:
		c.soon += rest
	default:
		c.overdue += rest * overdue / len(some)
		c.soon += rest * soon / len(some)
	}
	return nil
}

// firstDays reads the oldest keys: those of the first day that has any, of each
// index by age.
func (c *census) firstDays(ctx context.Context) error {
	for _, index := range []tenant.Index{tenant.RotatedOn, tenant.AgedOn} {
		day, err := c.b.tenants.Floor(ctx, index)
		if err != nil {
			return err
		}
		for found := false; day != "" && day <= tenant.DayOf(c.oldest) && !found; day = tenant.NextDay(day) {
			hinted, _, err := c.hinted(ctx, index, day, maxRecordsRead)
			if err != nil {
				return err
			}
			records, err := c.wanting(ctx, hinted)
			if err != nil {
				return err
			}
			for _, t := range records {
				c.sawKey(t)
				found = true
			}
		}
	}
	return nil
}

func (c *census) sawKey(t *tenant.Record) {
	if at := t.LastRotatedAt(); at.Before(c.oldest) {
		c.oldest = at
	}
}

// hinted lists the hints of a day, by parts at once: some of them, and how many
// there are.
func (c *census) hinted(ctx context.Context, i tenant.Index, day string, most int) (some []tenant.Hint, total int, err error) {
	shards, err := c.b.tenants.HintShards(ctx, i, day)
	if err != nil {
		return nil, 0, err
	}
	var mu sync.Mutex
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(readsInFlight)
	for _, part := range shards {
		g.Go(func() error {
			ids, err := c.b.tenants.HintedTenants(ctx, i, day, part)
			if err != nil {
				return err
			}
			mu.Lock()
			defer mu.Unlock()
			total += len(ids)
			// From each part, since the schedule goes through them in their order.
			few := min(len(ids), most/len(shards)+1, most-len(some))
			for _, id := range ids[:few] {
				some = append(some, tenant.Hint{Index: i, Day: day, TenantID: id})
			}
			return nil
		})
	}
	err = g.Wait()
	return some, total, err
}

// wanting reads the records of hints, and leaves out those that do not want them.
func (c *census) wanting(ctx context.Context, hints []tenant.Hint) ([]*tenant.Record, error) {
	ids := make([]string, len(hints))
	for n, h := range hints {
		ids[n] = h.TenantID
	}
	records, err := c.records(ctx, ids)
	if err != nil {
		return nil, err
	}
	var wanting []*tenant.Record
	for n, t := range records {
		if t != nil && t.Wants(hints[n]) {
			wanting = append(wanting, t)
		}
	}
	return wanting, nil
}

// records reads the records of active tenants, nil for those that are not.
func (c *census) records(ctx context.Context, ids []string) ([]*tenant.Record, error) {
	records := make([]*tenant.Record, len(ids))
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(readsInFlight)
	for n, id := range ids {
		g.Go(func() error {
			t, err := c.b.tenants.Active(ctx, id)
			if err == nil {
				records[n] = t
			}
			return ctx.Err() // one that is going, or cannot be read, is not counted
		})
	}
	return records, g.Wait()
}

func (c *census) mostOverdue() []string {
	slices.SortFunc(c.late, func(a, b lateTenant) int { return a.due.Compare(b.due) })
	ids := make([]string, 0, maxOverdueListed)
	for _, l := range c.late[:min(len(c.late), maxOverdueListed)] {
		ids = append(ids, l.id)
	}
	return ids
}
