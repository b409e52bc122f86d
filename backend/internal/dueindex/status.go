// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package dueindex

import (
	"slices"
	"time"

	"github.com/google/uuid"

	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/settings"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/tenant"
)

// MaxListed bounds the tenants of a kind that Counts names.
const MaxListed = 100

// Counts describes the state of the fleet, as far as the index knows it.
type Counts struct {
	Tenants       int
	Unfinished    int // rotations
	Failed        int // latest rotations
	FailedTenants []string

	Overdue        int
	OverdueTenants []string // the most overdue first
	DueWithin7Days int

	Paused        int
	PausedTenants []string
	PausedOverdue int

	// Blocked are due and cannot be rotated as they are, or owe a rotation that is held
	// up: by a pause, a deletion, or the time to wait after a failure or a cancel.
	Blocked        int
	BlockedTenants map[string]string // by ID, with the reason

	OldestKeyAge    time.Duration
	OldestKeyTenant string // empty: there is none
}

// Count counts the tenants in the index.
func (x *Index) Count(p Plan) Counts {
	c := census{
		lateness: p.lateness(), now: clamp(p.Now.Unix()), soon: clamp(p.Now.AddDate(0, 0, 7).Unix()), oldest: never,
		overdue: topList{less: earlier}, failed: topList{less: lowerID}, paused: topList{less: lowerID}, blocked: topList{less: worse},
	}
	x.each(c.count)
	s := c.Counts
	s.OverdueTenants, s.FailedTenants, s.PausedTenants = c.overdue.ids(), c.failed.ids(), c.paused.ids()
	s.BlockedTenants = x.why(c.blocked.top)
	if c.oldest != never {
		s.OldestKeyAge = max(0, p.Now.Sub(time.Unix(int64(c.oldest), 0)))
		s.OldestKeyTenant = c.oldestID.String()
	}
	return s
}

// CountCampaign counts the tenants that a request to rotate all of them concerns: those
// that are scheduled, and those that it skips because they are paused.
func (x *Index) CountCampaign(p Plan, includePaused bool) (scheduled, skippedPaused int) {
	x.each(func(e *entry) {
		switch {
		case !e.is(active):
		case e.is(paused) && !includePaused && !p.includesPaused(e):
			skippedPaused++
		default:
			scheduled++
		}
	})
	return scheduled, skippedPaused
}

// Unfinished lists the tenants whose rotation has not ended.
func (x *Index) Unfinished() (tenantIDs []string) {
	x.each(func(e *entry) {
		if e.is(unfinished) {
			tenantIDs = append(tenantIDs, e.id.String())
		}
	})
	return tenantIDs
}

// census counts entries.
type census struct {
	Counts
	lateness
	now, soon uint32

	oldest   uint32
	oldestID uuid.UUID

	overdue, failed, paused, blocked topList
}

func (c *census) count(e *entry) {
	c.Tenants++
	if why := c.plan.heldUp(e, c.now); why.reason != notHeld {
		c.Blocked++
		c.blocked.add(e, why)
	}
	if e.is(unfinished) {
		c.Unfinished++
	}
	if !e.is(active) {
		return
	}
	if e.rotatedAt < c.oldest {
		c.oldest, c.oldestID = e.rotatedAt, e.id
	}
	if e.is(failed) {
		c.Failed++
		c.failed.add(e, hold{})
	}
	if e.is(paused) {
		c.Paused++
		c.paused.add(e, hold{})
	}
	c.countDue(e)
}

// countDue counts a tenant whose rotation goes on as overdue until it has completed,
// whether or not the tenant is paused.
func (c *census) countDue(e *entry) {
	due, late := c.late(e, c.now)
	switch {
	case late && c.plan.passesOver(e):
		c.PausedOverdue++
	case late:
		c.Overdue++
		c.overdue.add(e, hold{until: due})
	case e.is(paused):
	case due < c.soon:
		c.DueWithin7Days++
	}
}

// passesOver reports whether the schedule passes an active tenant over, since it is paused.
func (p Plan) passesOver(e *entry) bool { return e.is(paused) && !p.goesOn(e) }

// goesOn reports whether a rotation that a tenant owes is not held up by its pause.
func (p Plan) goesOn(e *entry) bool {
	return p.owes(e) && (e.is(unfinished) || p.includesPaused(e))
}

// lateness tells which tenants are overdue by a plan. It holds what is the same for all
// of them.
type lateness struct {
	plan     Plan
	interval uint32 // the organization's, in seconds
	jitter   uint32
}

func (p Plan) lateness() lateness {
	return lateness{
		plan: p, interval: seconds(settings.IntervalLength(p.Settings.RotationInterval)), jitter: seconds(p.Jitter),
	}
}

// late returns when an active tenant is due by the age of its key, and whether it is
// overdue: so long that the jitter does not explain it, or owing a rotation. Neither a
// date of a back-off counts nor that a rotation is unfinished: one that was paused and
// forgotten, or is cancelled each day, must not hide how old the key gets. A paused one
// would be overdue, were it not paused.
func (l *lateness) late(e *entry, now uint32) (due uint32, late bool) {
	due = add(e.rotatedAt, l.interval)
	jitter := l.jitter
	if e.interval != 0 {
		due = add(e.rotatedAt, e.interval)
		jitter = min(jitter, e.interval/10) // as jitterOf
	}
	return due, add(due, jitter) < now || l.plan.owes(e)
}

// overdue reports whether an entry counts as overdue.
func (l *lateness) overdue(e *entry, now uint32) bool {
	_, late := l.late(e, now)
	return late && e.is(active) && !l.plan.passesOver(e)
}

// topList keeps the first entries of an order, as many as status names.
type topList struct {
	less func(a, b listed) bool
	top  []listed // sorted
}

type listed struct {
	id   uuid.UUID
	hold hold
}

func earlier(a, b listed) bool {
	return a.hold.until < b.hold.until || a.hold.until == b.hold.until && lowerID(a, b)
}

// worse puts those first that no time and no person holds up.
func worse(a, b listed) bool {
	return a.hold.reason < b.hold.reason || a.hold.reason == b.hold.reason && lowerID(a, b)
}

func lowerID(a, b listed) bool { return compareIDs(a.id, b.id) < 0 }

func (l *topList) add(e *entry, h hold) {
	x := listed{e.id, h}
	if len(l.top) == MaxListed {
		if !l.less(x, l.top[MaxListed-1]) {
			return
		}
		l.top = l.top[:MaxListed-1]
	}
	i, _ := slices.BinarySearchFunc(l.top, x, func(a, b listed) int {
		if l.less(a, b) {
			return -1
		}
		return 1
	})
	l.top = slices.Insert(l.top, i, x)
}

func (l *topList) ids() []string {
	ids := make([]string, 0, len(l.top))
	for _, x := range l.top {
		ids = append(ids, x.id.String())
	}
	return ids
}

// Overdue reports whether [Counts] has a tenant as overdue.
func (p Plan) Overdue(t *tenant.Record) bool {
	e, l := p.entryOf(t), p.lateness()
	return l.overdue(&e, clamp(p.Now.Unix()))
}
