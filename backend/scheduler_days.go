// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package backend

import (
	"context"
	"errors"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/store"
)

// visitsInFlight is how many tenants a round looks at at once: as many as can start
// a rotation at a time before storage has enough to do.
const visitsInFlight = 64

// visitor looks at a tenant. It returns when to look again, unless something
// changes before; the zero time is at the next tick.
type visitor func(context.Context, store.Appointment, *tally) (again time.Time, err error)

// days visits the tenants under the days of an index up to last, and moves the
// index's floor up over days before today that have no hints left. When waiting
// ends it visits no more.
func (s *scheduler) days(ctx, waiting context.Context, i store.Index, last string, now time.Time, did *tally, visit visitor) error {
	day, err := s.b.store.Floor(ctx, i)
	if err != nil || day == "" {
		return err
	}
	today := store.DayOf(now)
	for ; (day <= last || day < today) && waiting.Err() == nil; day = store.NextDay(day) {
		shards, err := s.b.store.HintShards(ctx, i, day)
		if err != nil {
			return err
		}
		if len(shards) == 0 {
			if day < today {
				if err := s.b.store.RaiseFloor(ctx, i, day); err != nil {
					return err
				}
			}
			continue
		}
		if day > last {
			return nil // there the floor stays
		}
		if err := s.visit(ctx, waiting, i, day, shards, now, did, visit); err != nil {
			return err
		}
	}
	return ctx.Err()
}

// visitDay visits the tenants under one day.
func (s *scheduler) visitDay(ctx, waiting context.Context, i store.Index, day string, now time.Time, did *tally, visit visitor) error {
	shards, err := s.b.store.HintShards(ctx, i, day)
	if err != nil {
		return err
	}
	return s.visit(ctx, waiting, i, day, shards, now, did, visit)
}

// visit looks at those tenants of a day whose time has come, part by part, so
// that the day need not be held in memory. One with trouble does not keep the
// others waiting.
func (s *scheduler) visit(ctx, waiting context.Context, i store.Index, day string, shards []string, now time.Time, did *tally, visit visitor) error {
	var g errgroup.Group
	g.SetLimit(visitsInFlight)
	defer func() { _ = g.Wait() }() // errors are in the tally
	for _, part := range shards {
		due, err := s.b.store.Appointments(ctx, i, day, part, now)
		if err != nil {
			return err
		}
		for _, a := range due {
			if waiting.Err() != nil {
				return ctx.Err()
			}
			g.Go(func() error {
				s.visitOne(ctx, a, did, visit)
				return nil
			})
		}
	}
	return ctx.Err()
}

// visitOne looks at a tenant. With trouble it is there again at the next look.
func (s *scheduler) visitOne(ctx context.Context, a store.Appointment, did *tally, visit visitor) {
	again, err := visit(ctx, a, did)
	switch {
	case ctx.Err() != nil:
	case err != nil:
		did.trouble(err)
	case !again.IsZero():
		s.b.store.LookAgain(a, again)
	}
}

// dropIfStale drops a hint that the tenant's record does not want. readErr is
// what reading the record gave.
func (s *scheduler) dropIfStale(ctx context.Context, h store.Hint, readErr error) error {
	if readErr != nil && !errors.Is(readErr, store.ErrTenantNotFound) {
		return readErr
	}
	if t, err := s.b.store.Tenant(ctx, h.TenantID); err == nil && t.Wants(h) {
		return nil
	}
	defer s.b.store.Exclusive(h.TenantID)()
	t, err := s.b.store.Tenant(ctx, h.TenantID)
	switch {
	case errors.Is(err, store.ErrTenantNotFound):
		t = nil
	case err != nil:
		return err
	case t.Wants(h):
		return nil
	}
	return s.b.store.DropHint(ctx, t, h)
}
