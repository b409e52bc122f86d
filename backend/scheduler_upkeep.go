// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package backend

import (
	"context"
	"errors"
	"time"

	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/deletion"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/tenant"
)

// lookOverEvery is how often hints that only status counts are compared with the
// records.
const lookOverEvery = 24 * time.Hour

// upkeep replaces worn keys, destroys keys and tenants whose time has come, and
// looks over what nobody else would come across.
func (s *scheduler) upkeep(ctx context.Context, did *tally) error {
	now := s.b.now()
	s.replaceWorn(ctx, did)
	w := dayWalk{tenants: s.b.tenants, waiting: ctx, now: now, visit: s.keepUp, did: did}
	return errors.Join(w.days(ctx, tenant.UpkeepOn, tenant.DayOf(now)), s.lookOver(ctx, now, did))
}

// lookOver drops hints that are wanted no more and that only status counts.
func (s *scheduler) lookOver(ctx context.Context, now time.Time, did *tally) error {
	w := dayWalk{tenants: s.b.tenants, waiting: ctx, now: now, did: did}
	w.visit = func(ctx context.Context, a tenant.Appointment, _ *tally) (time.Time, error) {
		return now.Add(lookOverEvery), s.dropIfStale(ctx, a.Hint, nil)
	}
	for _, i := range []tenant.Index{tenant.FailedNow, tenant.IdleNow} {
		if err := w.day(ctx, i, tenant.AnyDay); err != nil {
			return err
		}
	}
	// Here the first day is enough: there the oldest keys are.
	first, err := s.b.tenants.Floor(ctx, tenant.AgedOn)
	if err != nil {
		return err
	}
	return w.days(ctx, tenant.AgedOn, first)
}

func (s *scheduler) keepUp(ctx context.Context, a tenant.Appointment, did *tally) (time.Time, error) {
	t, err := s.b.tenants.Read(ctx, a.TenantID)
	if err != nil {
		return time.Time{}, s.dropIfStale(ctx, a.Hint, err)
	}
	if deletion.Due(t, s.b.now()) {
		if err := s.b.deletion.Shred(ctx, t.ID); err != nil {
			return time.Time{}, err
		}
		did.shredded.Add(1)
		return time.Time{}, nil
	}
	next, due := nextUpkeep(t, s.b.now())
	if due {
		n, err := s.b.rotations.DestroyRetired(ctx, t.ID)
		did.destroyed.Add(int64(n))
		return time.Time{}, err
	}
	return next, s.dropIfStale(ctx, a.Hint, nil)
}

// nextUpkeep reports whether a retired key of t is to be destroyed now, or else
// when one is, or the tenant: zero if that waits for the end of a rotation.
func nextUpkeep(t *tenant.Record, now time.Time) (next time.Time, due bool) {
	if t.State != tenant.Active {
		return t.DeleteAfter, false
	}
	for _, v := range t.Keys.Versions {
		switch {
		case v.DestroyAfter.IsZero():
		case !now.Before(v.DestroyAfter):
			return time.Time{}, t.Rotation == nil
		case next.IsZero() || v.DestroyAfter.Before(next):
			next = v.DestroyAfter
		}
	}
	return next, false
}
