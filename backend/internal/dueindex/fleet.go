// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package dueindex

import (
	"bytes"

	"github.com/google/uuid"
)

// Filter is a state of tenants that can be asked for.
type Filter string

// The states that can be asked for; the empty one is any.
const (
	Overdue  Filter = "overdue"
	Failed   Filter = "failed"
	Paused   Filter = "paused"
	Blocked  Filter = "blocked"
	Deleting Filter = "deleting"
)

// Query asks for a part of the fleet.
type Query struct {
	Search string // what the ID or the display name begins with, case ignored
	State  Filter
	Sort   Sort
	After  string // the ID of the last tenant of the part before; empty: from the beginning
	Limit  int    // of tenants, at least 1
}

// Fleet is a part of the fleet, and figures of the whole.
type Fleet struct {
	TenantIDs []string // in the order that was asked for

	// KeyAges counts the active keys whose age is below each of [AgeBounds] and not below
	// the one before; the last those that are older than all.
	KeyAges [len(AgeBounds) + 1]int
	// DueByWeek counts the tenants that the schedule rotates: those due already, those of
	// each of the next 52 weeks, and those due later.
	DueByWeek [weeks + 2]int
}

// AgeBounds are the ages, in days, at which the histogram of keys' ages is divided.
var AgeBounds = [...]int{30, 60, 90, 120, 180, 365}

const (
	weeks        = 52
	secondsAWeek = 7 * secondsADay
	secondsADay  = 24 * 60 * 60
)

// Fleet answers a query. It fails with [ErrAfter].
func (x *Index) Fleet(p Plan, q Query) (*Fleet, error) {
	v := newView(p, q)
	if q.After != "" {
		var err error
		if v.after, err = x.placeOf(v, q.After); err != nil {
			return nil, err
		}
	}
	x.eachNamed(v.add)
	picked := v.picked.best()
	x.notePlace(q.Sort, picked)
	for i := range picked {
		v.TenantIDs = append(v.TenantIDs, picked[i].id.String())
	}
	return &v.Fleet, nil
}

// view collects a part of the fleet. It looks at a million entries in one request, so
// what is the same for all of them is computed before.
type view struct {
	Fleet
	lateness
	now    uint32
	search search
	state  Filter
	sort   Sort
	after  *position // nil: from the beginning
	picked picker
}

func newView(p Plan, q Query) *view {
	return &view{
		lateness: p.lateness(), now: clamp(p.Now.Unix()), search: searchFor(q.Search), state: q.State, sort: q.Sort,
		picked: picker{limit: q.Limit},
	}
}

func (v *view) add(e *entry, name []byte) {
	d := v.due(e)
	if e.is(active) {
		v.KeyAges[ageClass(v.now, e.rotatedAt)]++
	}
	if d.scheduled {
		v.DueByWeek[week(v.now, d.at)]++
	}
	if !v.matches(e, d) || !v.search.matches(e, name) {
		return
	}
	at := v.position(e, d, name)
	if v.after == nil || v.after.before(&at) {
		v.picked.add(at)
	}
}

// due is when a tenant is due.
type due struct {
	at        uint32
	scheduled bool // the schedule is going to rotate it
	late      bool // it is overdue
}

func (v *view) due(e *entry) due {
	if !e.is(active) {
		return due{}
	}
	at, late := v.late(e, v.now)
	passed := v.plan.passesOver(e)
	return due{at, !passed && !e.is(unfinished), late && !passed}
}

func ageClass(now, since uint32) int {
	days := int(now-min(since, now)) / secondsADay
	for i, bound := range AgeBounds {
		if days < bound {
			return i
		}
	}
	return len(AgeBounds)
}

// week returns the place of a due date in [Fleet.DueByWeek].
func week(now, due uint32) int {
	if due <= now {
		return 0
	}
	return min(int(due-now-1)/secondsAWeek, weeks) + 1
}

func (v *view) matches(e *entry, d due) bool {
	switch v.state {
	case "":
		return true
	case Overdue:
		return d.late
	case Failed:
		return e.is(active) && e.is(failed)
	case Paused:
		return e.is(active) && e.is(paused)
	case Blocked:
		return v.plan.heldUp(e, v.now).reason != notHeld
	case Deleting:
		return !e.is(active | suspected | unreadable)
	}
	return true
}

// search matches tenants by what their ID or name begins with.
type search struct {
	name    []byte
	from    uuid.UUID // the IDs that begin so lie from here
	to      uuid.UUID // to here
	isOfIDs bool
}

func searchFor(text string) search {
	s := search{name: []byte(fold(text))}
	const lowest, highest = "00000000-0000-0000-0000-000000000000", "ffffffff-ffff-ffff-ffff-ffffffffffff"
	if len(s.name) > len(lowest) {
		return s
	}
	from, err := uuid.Parse(string(s.name) + lowest[len(s.name):])
	if err != nil {
		return s
	}
	s.from, s.to, s.isOfIDs = from, uuid.MustParse(string(s.name)+highest[len(s.name):]), true
	return s
}

func (s *search) matches(e *entry, name []byte) bool {
	if len(s.name) == 0 {
		return true
	}
	return bytes.HasPrefix(name, s.name) || s.isOfIDs && compareIDs(s.from, e.id) <= 0 && compareIDs(e.id, s.to) <= 0
}

// eachNamed calls f with every entry and its name. f must be quick, and may keep the
// name, but not change it.
func (x *Index) eachNamed(f func(e *entry, name []byte)) {
	for n := range x.shards {
		s := &x.shards[n]
		s.mu.Lock()
		for i := range s.entries {
			f(&s.entries[i], s.names.of(&s.entries[i]))
		}
		s.mu.Unlock()
	}
}
