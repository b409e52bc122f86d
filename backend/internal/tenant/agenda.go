// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package tenant

import (
	"context"
	"math"
	"slices"
	"sync"
	"time"

	"github.com/google/uuid"
)

const (
	// maxAppointments bounds what the agenda holds, at 24 bytes each.
	maxAppointments = 1 << 21
	// agendaHolds is how long a part of the agenda is believed before it is
	// listed again, so that nothing depends on its being right for ever.
	agendaHolds = 24 * time.Hour
	// never is a count of changes that no entry comes to.
	never = math.MaxUint32
)

// agenda is what is in memory of the days that the schedule goes through: when
// to look at which tenant. Without it, each tick would list those days and read
// each tenant there, to find most of them not due yet: of a million tenants some
// thousands, and all of them if they were created on one day.
//
// It only puts off. What is not in it is listed; whoever's record or hint
// changes is looked at again.
type agenda struct {
	mu    sync.Mutex
	parts map[agendaPart]*appointments
	size  int // how many entries all parts hold
}

// agendaPart is a part of a day's hints.
type agendaPart struct {
	index Index
	day   string
	shard string // two hex digits
}

// appointments are those of one part.
type appointments struct {
	listed  time.Time
	listing bool  // a List is under way: what changes meanwhile is kept
	next    int64 // none is before: in Unix seconds, as at
	entries []entryAt
}

// entryAt is when to look at a tenant, for it to be cheap in millions.
type entryAt struct {
	id  uuid.UUID
	at  uint32 // Unix seconds; 0: now
	seq uint32 // counts changes
}

// Appointment is a hint that is to be looked at now.
type Appointment struct {
	Hint
	seq uint32
}

func partOf(h Hint) agendaPart { return agendaPart{h.Index, h.Day, shard(h.TenantID)} }

// Appointments returns the tenants in one part of a day's hints that are to be
// looked at now: from memory, or, where that has nothing, all that a List shows.
func (s *Store) Appointments(ctx context.Context, i Index, day, shard string, now time.Time) ([]Appointment, error) {
	k := agendaPart{i, day, shard}
	if due, known := s.agenda.lookUp(k, now); known {
		return due, nil
	}
	ids, err := s.HintedTenants(ctx, i, day, shard)
	return s.agenda.install(k, ids, now, err), err
}

// LookAgain notes that a tenant need not be looked at before a time, unless
// something has changed since the appointment was made.
func (s *Store) LookAgain(a Appointment, at time.Time) { s.agenda.putOff(a, at) }

// ForgetAppointments lets everything be looked at again: what decides when a
// tenant is due has changed.
func (s *Store) ForgetAppointments() { s.agenda.clear() }

// lookUp returns the appointments in a part whose time has come, if the agenda
// has it. If not, it is told what changes from now on, for a List.
func (a *agenda) lookUp(k agendaPart, now time.Time) (due []Appointment, known bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if p := a.parts[k]; p != nil {
		if age := now.Sub(p.listed); age >= 0 && age < agendaHolds {
			return p.due(k, now), true
		}
		a.size -= len(p.entries)
	}
	if a.parts == nil || a.size > maxAppointments {
		a.parts, a.size = map[agendaPart]*appointments{}, 0
	}
	a.parts[k] = &appointments{listed: now, listing: true}
	return nil, false
}

// install takes what a List of a part showed, or that it failed, and returns the
// appointments whose time has come.
func (a *agenda) install(k agendaPart, ids []string, now time.Time, err error) []Appointment {
	a.mu.Lock()
	defer a.mu.Unlock()
	p := a.parts[k]
	if p == nil {
		return atOnce(k, ids)
	}
	if err != nil {
		a.drop(k, p)
		return nil
	}
	p.listing, p.next = false, 0
	changed := p.entries
	p.entries = make([]entryAt, 0, len(ids)+len(changed))
	for _, text := range ids {
		if id, err := uuid.Parse(text); err == nil {
			p.entries = append(p.entries, entryAt{id: id})
		}
	}
	slices.SortFunc(p.entries, func(x, y entryAt) int { return compareUUIDs(x.id, y.id) })
	a.size += len(p.entries) - len(changed)
	for _, e := range changed {
		a.set(p, e.id, e.seq)
	}
	return p.due(k, now)
}

// atOnce are appointments of a part that was cleared while it was listed. With it
// went what changed meanwhile, so none of them can be put off.
func atOnce(k agendaPart, ids []string) []Appointment {
	due := make([]Appointment, 0, len(ids))
	for _, id := range ids {
		due = append(due, Appointment{Hint{k.index, k.day, id}, never})
	}
	return due
}

// due returns the entries whose time has come.
func (p *appointments) due(k agendaPart, now time.Time) []Appointment {
	if now.Unix() < p.next {
		return nil
	}
	var due []Appointment
	p.next = math.MaxInt64
	for _, e := range p.entries {
		if int64(e.at) <= now.Unix() {
			due = append(due, Appointment{Hint{k.index, k.day, e.id.String()}, e.seq})
		}
		p.next = min(p.next, int64(e.at))
	}
	return due
}

func (a *agenda) putOff(x Appointment, at time.Time) {
	a.mu.Lock()
	defer a.mu.Unlock()
	p := a.parts[partOf(x.Hint)]
	if p == nil {
		return
	}
	id, err := uuid.Parse(x.TenantID)
	if i, found := p.find(id); err == nil && found && p.entries[i].seq == x.seq {
		p.entries[i].at = uint32(min(max(at.Unix(), 0), math.MaxUint32)) // #nosec G115 -- in between
		p.next = 0                                                       // found out at the next look
	}
}

// Changed lets a tenant be looked at at once under a hint, which was written, or
// whose tenant's record was.
func (a *agenda) changed(h Hint) {
	id, err := uuid.Parse(h.TenantID)
	a.mu.Lock()
	defer a.mu.Unlock()
	if p := a.parts[partOf(h)]; p != nil && err == nil {
		a.set(p, id, 0)
	}
}

// set is changed of a part. a.mu is held.
func (a *agenda) set(p *appointments, id uuid.UUID, seq uint32) {
	i, found := p.find(id)
	if !found {
		p.entries = slices.Insert(p.entries, i, entryAt{id: id})
		a.size++
	}
	p.entries[i].at, p.entries[i].seq = 0, max(p.entries[i].seq, seq)+1
	p.next = 0
}

// gone takes out a hint that was deleted. While a part is being listed it stays:
// the List may show it, and to look in vain does no harm.
func (a *agenda) gone(h Hint) {
	id, err := uuid.Parse(h.TenantID)
	a.mu.Lock()
	defer a.mu.Unlock()
	p := a.parts[partOf(h)]
	if p == nil || p.listing || err != nil {
		return
	}
	if i, found := p.find(id); found {
		p.entries = slices.Delete(p.entries, i, i+1)
		a.size--
	}
	if len(p.entries) == 0 {
		a.drop(partOf(h), p)
	}
}

func (a *agenda) clear() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.parts, a.size = nil, 0
}

// drop forgets a part. a.mu is held.
func (a *agenda) drop(k agendaPart, p *appointments) {
	a.size -= len(p.entries)
	delete(a.parts, k)
}

func (p *appointments) find(id uuid.UUID) (i int, found bool) {
	return slices.BinarySearchFunc(p.entries, id, func(e entryAt, id uuid.UUID) int { return compareUUIDs(e.id, id) })
}
