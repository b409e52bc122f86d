// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package fleet

import (
	"context"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/settings"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/tenant"
)

// check compares the rotations of a tenant with its due dates, and returns how
// many there were.
func (y *fleetYear) check(f *fleetTenant) int {
	ctx := context.Background()
	t, err := y.b.Tenants.Read(ctx, f.id)
	require.NoError(y.t, err)
	rotations, err := y.b.Rotations.All(ctx, t)
	require.NoError(y.t, err)
	last := f.created
	for i := len(rotations) - 1; i >= 0; i-- {
		r := rotations[i]
		require.Equal(y.t, tenant.Completed, r.Phase, "tenant %s", f.id)
		require.False(y.t, r.StartedAt.Before(last.Add(y.interval(f, r.StartedAt))), "tenant %s: rotated at %s, too early", f.id, r.StartedAt)
		require.False(y.t, y.latest(f, last).Before(r.StartedAt), "tenant %s: rotated at %s, too late: %s", f.id, r.StartedAt, y.latest(f, last))
		require.Equal(y.t, "scheduled", r.Trigger)
		last = r.StartedAt
	}
	require.False(y.t, y.latest(f, last).Before(y.clock()), "tenant %s: forgotten since %s", f.id, y.latest(f, last))
	// A page that did not open for months has not cost a version at each try.
	require.Equal(y.t, len(rotations)+1, t.Keys.Active().Number, "versions of tenant %s", f.id)
	return len(rotations)
}

// interval is the interval in force for a tenant at a time.
func (y *fleetYear) interval(f *fleetTenant, at time.Time) time.Duration {
	if own := lastOf(f.overrides, at); own != "" {
		return settings.IntervalLength(own)
	}
	return settings.IntervalLength(lastOf(y.intervals, at))
}

func lastOf(changes []dated, at time.Time) (is string) {
	for _, c := range changes {
		if !at.Before(c.from) {
			is = c.is
		}
	}
	return is
}

// latest is when a tenant whose key is of a time has to have been rotated: when
// its interval has passed first, later by the jitter, by pauses, and by the time
// in which nobody could look. A far day stands for never.
func (y *fleetYear) latest(f *fleetTenant, last time.Time) time.Time {
	points := []time.Time{last}
	for _, changes := range [][]dated{y.intervals, f.overrides} {
		for _, c := range changes {
			points = append(points, c.from)
		}
	}
	due := last.AddDate(10, 0, 0)
	for _, p := range points {
		if p.Before(last) {
			p = last
		}
		if at := last.Add(y.interval(f, p)); lastOfDue(at, p).Before(due) && y.interval(f, lastOfDue(at, p)) == y.interval(f, p) {
			due = lastOfDue(at, p)
		}
	}
	due = due.Add(fleetJitter)
	for range 2 { // one delay may lead into another
		for _, w := range append(append([]span(nil), f.paused...), y.dark...) {
			to := w.to
			if to.IsZero() {
				to = y.clock().AddDate(1, 0, 0)
			}
			if !due.Before(w.from.Add(-fleetSlack)) && due.Before(to) {
				due = to
			}
		}
	}
	return due.Add(fleetSlack)
}

// lastOfDue is the later of when an interval has passed and when it came into
// force.
func lastOfDue(at, from time.Time) time.Time {
	if at.Before(from) {
		return from
	}
	return at
}
