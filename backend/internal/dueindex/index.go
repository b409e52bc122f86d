// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package schedule

import (
	"bytes"
	"math"
	"slices"
	"sync"

	"github.com/google/uuid"

	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/tenant"
)

// index holds what decides when to look at each tenant, what status counts, and what
// people search for. A million tenants take some 55 MB, and their display names.
type index struct {
	shards [tenant.Shards]shard

	mu      sync.Mutex
	plan    plan              // by which the entries' times are set
	reasons map[string]string // why a blocked tenant cannot be rotated, of the first maxReasons
}

// maxReasons bounds the reasons that are kept.
const maxReasons = 1000

// shard is the part of the index whose records lie under one prefix of storage.
type shard struct {
	mu      sync.Mutex
	entries []entry // sorted by ID
	names   names
	next    uint32 // no entry's time is before
	changes uint32 // counted over all entries, so that it outlives a deletion
	loaded  bool   // it has been read since the start
	reading bool
	told    map[uuid.UUID]bool // the tenants that were reported while it is read
}

// visit is a tenant to look at.
type visit struct {
	tenantID string
	seq      uint32
	first    bool   // a caller has asked for it
	due      uint32 // Unix seconds
}

func (s *shard) find(id uuid.UUID) (i int, found bool) {
	return slices.BinarySearchFunc(s.entries, id, func(e entry, id uuid.UUID) int { return compareIDs(e.id, id) })
}

func compareIDs(a, b uuid.UUID) int { return bytes.Compare(a[:], b[:]) }

// set replaces what is known of a tenant, and counts that as a change; nil if there
// is no such tenant. s.mu is held.
func (s *shard) set(id uuid.UUID, known *entry) {
	i, found := s.find(id)
	switch {
	case known == nil && found:
		s.remove(i)
	case known == nil:
	default:
		if !found {
			s.entries = slices.Insert(s.entries, i, entry{id: id})
		}
		s.changes++
		before := s.entries[i]
		s.entries[i] = *known
		s.entries[i].id, s.entries[i].seq = id, s.changes
		s.entries[i].nameAt, s.entries[i].nameLen = before.nameAt, before.nameLen
		s.next = min(s.next, known.next())
	}
}

// remove takes an entry out. s.mu is held.
func (s *shard) remove(i int) {
	s.names.unused += int(s.entries[i].nameLen)
	s.entries = slices.Delete(s.entries, i, i+1)
}

// changed takes a reported change of a tenant's record: t is the record as it is now,
// nil if there is none. After an error the record's state is unknown and it is read.
func (x *index) changed(tenantID string, t *tenant.Record, err error) {
	id, parseErr := uuid.Parse(tenantID)
	if parseErr != nil {
		return // no tenant has such an ID
	}
	p := x.current()
	s := &x.shards[tenant.ShardOf(tenantID)]
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.reading {
		s.told[id] = true
	}
	switch {
	case isDamaged(err):
		x.suspect(s, id, unreadable)
	case err != nil:
		x.suspect(s, id, 0)
	case t == nil:
		s.set(id, nil)
		x.unblock(tenantID)
	default:
		e := p.entryOf(t)
		s.set(id, &e)
		s.rename(id, t.DisplayName)
		x.unblock(tenantID)
	}
}

// suspect makes a tenant due for a look at once. s.mu is held.
func (x *index) suspect(s *shard, id uuid.UUID, more flags) {
	e := entry{campaign: unknown}
	if i, found := s.find(id); found {
		e = s.entries[i]
	}
	e.flags |= suspected | more
	e.lookAt = 0
	s.set(id, &e)
}

// settle notes what a visit has found: the record t, nil if there is none. It counts
// only if nothing has changed since the visit began.
func (x *index) settle(v visit, t *tenant.Record) {
	x.ifUnchanged(v, func(s *shard, i int) {
		if t == nil {
			s.remove(i)
			return
		}
		e, before := x.current().entryOf(t), s.entries[i]
		e.id, e.seq = before.id, v.seq
		e.nameAt, e.nameLen = before.nameAt, before.nameLen
		s.entries[i] = e
		s.rename(e.id, t.DisplayName)
		s.next = 0 // found out at the next look
	})
	x.unblock(v.tenantID)
}

// block notes why a visited tenant that is due cannot be served.
func (x *index) block(v visit, reason string) {
	x.ifUnchanged(v, func(s *shard, i int) { s.entries[i].flags |= blocked })
	x.because(v.tenantID, reason)
}

// refused notes why a rotation of a tenant was refused: until its record changes.
func (x *index) refused(tenantID, reason string) {
	id, err := uuid.Parse(tenantID)
	if err != nil {
		return
	}
	s := &x.shards[tenant.ShardOf(tenantID)]
	s.mu.Lock()
	if i, found := s.find(id); found {
		s.entries[i].flags |= blocked
	}
	s.mu.Unlock()
	x.because(tenantID, reason)
}

// because keeps the reason for which a tenant is blocked.
func (x *index) because(tenantID, reason string) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.reasons == nil {
		x.reasons = map[string]string{}
	}
	if len(x.reasons) < maxReasons {
		x.reasons[tenantID] = reason
	}
}

func (x *index) unblock(tenantID string) {
	x.mu.Lock()
	defer x.mu.Unlock()
	delete(x.reasons, tenantID)
}

// ifUnchanged calls f with the place of a visited tenant's entry, if that has not
// changed since.
func (x *index) ifUnchanged(v visit, f func(s *shard, i int)) {
	id, err := uuid.Parse(v.tenantID)
	if err != nil {
		return
	}
	s := &x.shards[tenant.ShardOf(v.tenantID)]
	s.mu.Lock()
	defer s.mu.Unlock()
	if i, found := s.find(id); found && s.entries[i].seq == v.seq {
		f(s, i)
	}
}

// due returns the tenants to look at now, for rotations or for upkeep.
func (x *index) due(now uint32, upkeep bool) []visit {
	var visits []visit
	for n := range x.shards {
		visits = x.shards[n].due(visits, now, upkeep)
	}
	return visits
}

func (s *shard) due(visits []visit, now uint32, upkeep bool) []visit {
	s.mu.Lock()
	defer s.mu.Unlock()
	if now < s.next {
		return visits
	}
	s.next = never
	for i := range s.entries {
		e := &s.entries[i]
		s.next = min(s.next, e.next())
		at := e.lookAt
		if upkeep {
			at = e.upkeepAt
		}
		if at <= now {
			visits = append(visits, visit{e.id.String(), e.seq, e.is(asked), at})
		}
	}
	return visits
}

// follow sets every entry's time by another plan, if that decides otherwise than
// the one before.
func (x *index) follow(p plan) {
	x.mu.Lock()
	same := x.plan.decidesAs(p)
	x.plan = p
	x.mu.Unlock()
	if same {
		return
	}
	for n := range x.shards {
		s := &x.shards[n]
		s.mu.Lock()
		for i := range s.entries {
			s.entries[i].lookAt = p.lookAt(&s.entries[i])
		}
		s.next = 0
		s.mu.Unlock()
	}
}

func (x *index) current() plan {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.plan
}

// each calls f with every entry. f must be quick, and keeps nothing.
func (x *index) each(f func(*entry)) {
	for n := range x.shards {
		s := &x.shards[n]
		s.mu.Lock()
		for i := range s.entries {
			f(&s.entries[i])
		}
		s.mu.Unlock()
	}
}

// never is a time that does not come.
const never = math.MaxUint32
