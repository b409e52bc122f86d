// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package dueindex

import (
	"bytes"
	"math"
	"slices"
	"sync"

	"github.com/google/uuid"
)

// never is a time that does not come.
const never = math.MaxUint32

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

func (s *shard) due(visits []Visit, now uint32, upkeep bool) []Visit {
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
			visits = append(visits, Visit{e.id.String(), e.is(asked), at, e.seq})
		}
	}
	return visits
}
