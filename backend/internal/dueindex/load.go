// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package dueindex

import (
	"slices"

	"github.com/google/uuid"

	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/tenant"
)

// Found is what a reading of records found of a tenant.
type Found struct {
	entry
	name string
}

// Found is what a reading found in a tenant's record.
func (x *Index) Found(id uuid.UUID, t *tenant.Record) *Found {
	f := &Found{x.current().entryOf(t), fold(t.DisplayName)}
	f.id = id
	return f
}

// Unreadable is what a reading found of a tenant whose record cannot be read.
func Unreadable(id uuid.UUID) *Found {
	return &Found{entry: entry{id: id, flags: suspected | unreadable, campaign: unknown, upkeepAt: never}}
}

// BeginReading notes that the records of a shard are being read from now on, until
// EndReading, and returns the tenants of the shard that the index knows.
func (x *Index) BeginReading(shard int) (known map[uuid.UUID]bool) { return x.shards[shard].begin() }

// EndReading ends what BeginReading began.
func (x *Index) EndReading(shard int) { x.shards[shard].end() }

// Install takes what a reading of a shard found. Tenants that were reported since the
// reading began stay as they were reported. A nil is left out.
func (x *Index) Install(shard int, found []*Found) { x.shards[shard].install(found, x.current) }

func (s *shard) begin() (known map[uuid.UUID]bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.reading, s.told = true, map[uuid.UUID]bool{}
	known = make(map[uuid.UUID]bool, len(s.entries))
	for i := range s.entries {
		known[s.entries[i].id] = true
	}
	return known
}

func (s *shard) end() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.reading, s.told = false, nil
}

func (s *shard) install(found []*Found, plan func() Plan) {
	s.mu.Lock()
	defer s.mu.Unlock()
	p := plan() // another one may have come since the records were read: see SetPlan
	known := s.entries
	merged := make([]entry, 0, len(found))
	var names names
	for _, e := range known {
		if s.told[e.id] {
			names.add(&e, string(s.names.of(&e)))
			merged = append(merged, e)
		}
	}
	for _, e := range found {
		if e == nil || s.told[e.id] {
			continue
		}
		one, name := e.entry, e.name
		if i, before := s.find(e.id); before && e.is(unreadable) { // what was known of it may still hold
			one, name = known[i], string(s.names.of(&known[i]))
			one.flags |= e.flags
		}
		one.lookAt = p.lookAt(&one)
		names.add(&one, name)
		s.changes++
		one.seq = s.changes // a visit under way has seen another record
		merged = append(merged, one)
	}
	slices.SortFunc(merged, func(a, b entry) int { return compareIDs(a.id, b.id) })
	s.entries, s.names, s.loaded, s.next = merged, names, true, 0
}
