// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package dueindex

import (
	"sync"
	"time"

	"github.com/google/uuid"

	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/tenant"
)

// Index holds what decides when to look at each tenant, what status counts, and what
// people search for. A million tenants take some 55 MB, and their display names.
type Index struct {
	shards [tenant.Shards]shard
	places *places

	replanning sync.Mutex // held while SetPlan goes through the entries; taken before all others

	mu      sync.Mutex
	plan    Plan              // by which the entries' times are set
	reasons map[string]string // why a blocked tenant cannot be rotated, of the first maxReasons
}

// New returns an index that knows no tenant.
func New() *Index { return &Index{places: newPlaces()} }

// maxReasons bounds the reasons that are kept.
const maxReasons = 1000

// Visit is a tenant to look at.
type Visit struct {
	TenantID string
	Asked    bool   // it owes a rotation to a request that names it; a campaign for all does not count
	DueAt    uint32 // Unix seconds
	seq      uint32 // of the tenant's latest change
}

// Changed takes a reported change of a tenant's record: t is the record as it is now,
// nil if there is none.
func (x *Index) Changed(tenantID string, t *tenant.Record) {
	x.report(tenantID, func(s *shard, id uuid.UUID) {
		if t == nil {
			s.set(id, nil)
		} else {
			e := x.current().entryOf(t)
			s.set(id, &e)
			s.rename(id, t.DisplayName)
		}
		x.unblock(tenantID)
	})
}

// Suspect notes that a tenant's record may have changed, since a change of it failed: it
// is due for a look at once. The record may be known to be unreadable.
func (x *Index) Suspect(tenantID string, isUnreadable bool) {
	x.report(tenantID, func(s *shard, id uuid.UUID) {
		if isUnreadable {
			x.suspect(s, id, unreadable)
		} else {
			x.suspect(s, id, 0)
		}
	})
}

// report calls f with the shard of a tenant whose change is reported, under the shard's
// lock. A reading of the shard that is under way then leaves that tenant alone.
func (x *Index) report(tenantID string, f func(s *shard, id uuid.UUID)) {
	id, err := uuid.Parse(tenantID)
	if err != nil {
		return // no tenant has such an ID
	}
	s := &x.shards[tenant.ShardOf(tenantID)]
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.reading {
		s.told[id] = true
	}
	f(s, id)
}

// suspect makes a tenant due for a look at once. s.mu is held.
func (x *Index) suspect(s *shard, id uuid.UUID, more flags) {
	e := entry{campaign: unknown}
	if i, found := s.find(id); found {
		e = s.entries[i]
	}
	e.flags |= suspected | more
	e.lookAt = 0
	s.set(id, &e)
}

// Settle notes what a visit has found: the record t, nil if there is none. It counts
// only if nothing has changed since the visit began.
func (x *Index) Settle(v Visit, t *tenant.Record) {
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
	x.unblock(v.TenantID)
}

// Block notes why a visited tenant that is due cannot be served.
func (x *Index) Block(v Visit, reason string) {
	x.ifUnchanged(v, func(s *shard, i int) { s.entries[i].flags |= blocked })
	x.because(v.TenantID, reason)
}

// Refused notes why a rotation of a tenant was refused: until its record changes.
func (x *Index) Refused(tenantID, reason string) {
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
func (x *Index) because(tenantID, reason string) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.reasons == nil {
		x.reasons = map[string]string{}
	}
	if len(x.reasons) < maxReasons {
		x.reasons[tenantID] = reason
	}
}

func (x *Index) unblock(tenantID string) {
	x.mu.Lock()
	defer x.mu.Unlock()
	delete(x.reasons, tenantID)
}

// ifUnchanged calls f with the place of a visited tenant's entry, if that has not
// changed since.
func (x *Index) ifUnchanged(v Visit, f func(s *shard, i int)) {
	id, err := uuid.Parse(v.TenantID)
	if err != nil {
		return
	}
	s := &x.shards[tenant.ShardOf(v.TenantID)]
	s.mu.Lock()
	defer s.mu.Unlock()
	if i, found := s.find(id); found && s.entries[i].seq == v.seq {
		f(s, i)
	}
}

// Due returns the tenants to look at now for a rotation.
func (x *Index) Due(now time.Time) []Visit { return x.due(clamp(now.Unix()), false) }

// UpkeepDue returns the tenants to look at now for upkeep: a retired key or the tenant
// itself is to be destroyed, or its keys are being moved to another KEK.
func (x *Index) UpkeepDue(now time.Time) []Visit { return x.due(clamp(now.Unix()), true) }

func (x *Index) due(now uint32, upkeep bool) []Visit {
	var visits []Visit
	for n := range x.shards {
		visits = x.shards[n].due(visits, now, upkeep)
	}
	return visits
}

// VisitOf returns a visit to a tenant that is not due, as of what is known of it now.
func (x *Index) VisitOf(tenantID string) Visit {
	return Visit{TenantID: tenantID, seq: x.entryAt(tenantID).seq}
}

// IsBlocked reports whether a tenant is due or owes a rotation, and is held up.
func (x *Index) IsBlocked(tenantID string) bool {
	e, p := x.entryAt(tenantID), x.current()
	return p.heldUp(&e, clamp(p.Now.Unix())).reason != notHeld
}

// entryAt returns what is known of a tenant, zero if nothing is.
func (x *Index) entryAt(tenantID string) (e entry) {
	id, err := uuid.Parse(tenantID)
	if err != nil {
		return e
	}
	s := &x.shards[tenant.ShardOf(tenantID)]
	s.mu.Lock()
	defer s.mu.Unlock()
	if i, found := s.find(id); found {
		e = s.entries[i]
	}
	return e
}

// SetPlan makes p the plan, and sets every entry's time by it unless it decides as the one
// before did. When it returns every entry has its time by p or by a later plan, also if
// another call has set p and is still at work: a round asks at once who is due. A plan whose
// settings were read before those of the plan that is set is not set: it may lack a change.
//
// The plan is set before the entries' times are. So what sets an entry's time asks for the
// plan under the lock of the entry's shard: either that is the latest plan, or SetPlan has
// still to come to the shard. By an older plan the tenant might not be due, and nothing
// would look at it until its record is read again, a day later.
func (x *Index) SetPlan(p Plan) {
	x.replanning.Lock()
	defer x.replanning.Unlock()
	x.mu.Lock()
	former, same := p.Order < x.plan.Order, x.plan.decidesAs(p)
	if !former {
		x.plan = p
	}
	x.mu.Unlock()
	if former || same {
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

func (x *Index) current() Plan {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.plan
}

// each calls f with every entry. f must be quick, and keeps nothing.
func (x *Index) each(f func(*entry)) {
	for n := range x.shards {
		s := &x.shards[n]
		s.mu.Lock()
		for i := range s.entries {
			f(&s.entries[i])
		}
		s.mu.Unlock()
	}
}
