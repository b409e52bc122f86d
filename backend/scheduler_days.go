// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package backend

import (
	"context"
	"errors"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/tenant"
)

// visitsInFlight is how many tenants a round looks at at once: as many as can start
// a rotation at a time before storage has enough to do.
const visitsInFlight = 64

// visitor looks at a tenant. It returns when to look again, unless something
// changes before; the zero time is at the next tick.
type visitor func(context.Context, tenant.Appointment, *tally) (again time.Time, err error)

// dayWalk goes through the days of the indexes and visits those tenants whose time has
// come.
type dayWalk struct {
	tenants *tenant.Store
	waiting context.Context // when it ends, nobody else is visited
	now     time.Time
	visit   visitor
	did     *tally
}

// days goes through the days of an index up to last, and moves the index's floor up
// over days before today that have no hints left.
func (w dayWalk) days(ctx context.Context, i tenant.Index, last string) error {
	day, err := w.tenants.Floor(ctx, i)
	if err != nil || day == "" {
		return err
	}
	today := tenant.DayOf(w.now)
	for ; (day <= last || day < today) && w.waiting.Err() == nil; day = tenant.NextDay(day) {
		shards, err := w.tenants.HintShards(ctx, i, day)
		if err != nil {
			return err
		}
		if len(shards) == 0 {
			if day < today {
				if err := w.tenants.RaiseFloor(ctx, i, day); err != nil {
					return err
				}
			}
			continue
		}
		if day > last {
			return nil // there the floor stays
		}
		if err := w.shards(ctx, i, day, shards); err != nil {
			return err
		}
	}
	return ctx.Err()
}

// day goes through one day of an index.
func (w dayWalk) day(ctx context.Context, i tenant.Index, day string) error {
	shards, err := w.tenants.HintShards(ctx, i, day)
	if err != nil {
		return err
	}
	return w.shards(ctx, i, day, shards)
}

// shards goes through a day shard by shard, so that it need not be held in memory.
// One tenant with trouble does not keep the others waiting.
func (w dayWalk) shards(ctx context.Context, i tenant.Index, day string, shards []string) error {
	var g errgroup.Group
	g.SetLimit(visitsInFlight)
	defer func() { _ = g.Wait() }() // errors are in the tally
	for _, shard := range shards {
		due, err := w.tenants.Appointments(ctx, i, day, shard, w.now)
		if err != nil {
			return err
		}
		for _, a := range due {
			if w.waiting.Err() != nil {
				return ctx.Err()
			}
			g.Go(func() error {
				w.tenant(ctx, a)
				return nil
			})
		}
	}
	return ctx.Err()
}

// tenant visits one. With trouble it is there again at the next look.
func (w dayWalk) tenant(ctx context.Context, a tenant.Appointment) {
	again, err := w.visit(ctx, a, w.did)
	switch {
	case ctx.Err() != nil:
	case err != nil:
		w.did.trouble(err)
	case !again.IsZero():
		w.tenants.LookAgain(a, again)
	}
}

// dropIfStale drops a hint that the tenant's record does not want. readErr is
// what reading the record gave.
func (s *scheduler) dropIfStale(ctx context.Context, h tenant.Hint, readErr error) error {
	if readErr != nil && !errors.Is(readErr, tenant.ErrNotFound) {
		return readErr
	}
	if t, err := s.b.tenants.Read(ctx, h.TenantID); err == nil && t.Wants(h) {
		return nil
	}
	return s.b.tenants.Hold(ctx, h.TenantID, func(held *tenant.Held) error {
		if t := held.Record(); t != nil && t.Wants(h) {
			return nil
		}
		return held.DropHint(ctx, h)
	})
}
