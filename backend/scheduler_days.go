// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package backend

import (
	"context"
	"errors"
	"sync"

	"golang.org/x/sync/errgroup"

	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/store"
)

// days visits the tenants under the days of an index up to last, and moves the
// index's floor up over days before today that have no hints left.
func (s *scheduler) days(ctx context.Context, i store.Index, last, today string, did *tally,
	visit func(context.Context, store.Hint, *tally) error,
) error {
	day, err := s.b.store.Floor(ctx, i)
	if err != nil || day == "" {
		return err
	}
	for ; day <= last || day < today; day = store.NextDay(day) {
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
		if err := s.visit(ctx, i, day, shards, did, visit); err != nil {
			return err
		}
	}
	return nil
}

// visit looks at the tenants of one day. One with trouble does not keep the
// others waiting.
func (s *scheduler) visit(ctx context.Context, i store.Index, day string, shards []string, did *tally,
	visit func(context.Context, store.Hint, *tally) error,
) error {
	for _, part := range shards {
		ids, err := s.b.store.HintedTenants(ctx, i, day, part)
		if err != nil {
			return err
		}
		var (
			g    errgroup.Group
			mu   sync.Mutex
			errs []error
		)
		g.SetLimit(visitsInFlight)
		for _, id := range ids {
			if ctx.Err() != nil {
				break
			}
			g.Go(func() error {
				if err := visit(ctx, store.Hint{Index: i, Day: day, TenantID: id}, did); err != nil {
					did.failed.Add(1)
					mu.Lock()
					defer mu.Unlock()
					if len(errs) == 0 {
						errs = append(errs, err)
					}
				}
				return nil
			})
		}
		_ = g.Wait() // the errors are in errs
		if err := errors.Join(append(errs, ctx.Err())...); err != nil {
			s.b.Logger().Warn("the schedule could not serve every tenant", "day", day, "error", err)
		}
	}
	return ctx.Err()
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
