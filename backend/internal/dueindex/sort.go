// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package dueindex

import (
	"bytes"
	"cmp"
	"errors"
	"slices"

	"github.com/google/uuid"
	lru "github.com/hashicorp/golang-lru/v2"

	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/tenant"
)

// Sort is an order of tenants.
type Sort string

// The orders that there are. In each, tenants that are alike are sorted by ID.
const (
	// ByDueDate has those that are overdue first, the most overdue at the beginning; then
	// by due date those that the schedule rotates; then the others.
	ByDueDate Sort = "overdue"
	ByName    Sort = "name" // those without a name come last
	ByAge     Sort = "age"  // the oldest key first; those that are being deleted come last
)

// ErrAfter reports a place to begin at that is none.
var ErrAfter = errors.New("after must be the ID of a tenant, the last of the part before")

// position is the place of a tenant in an order. It does not depend on which other
// tenants there are.
type position struct {
	rank uint64
	name []byte
	id   uuid.UUID
}

// position returns the place of an entry in the view's order.
func (v *view) position(e *entry, d due, name []byte) position {
	at := position{id: e.id}
	switch v.sort {
	case ByName:
		at.name = name
		if len(name) == 0 {
			at.rank = 1
		}
	case ByAge:
		at.rank = never
		if e.is(active) {
			at.rank = uint64(e.rotatedAt)
		}
	default:
		const notLate, notScheduled = 1 << 32, 2 << 32
		switch {
		case d.late:
			at.rank = uint64(d.at)
		case d.scheduled:
			at.rank = notLate + uint64(d.at)
		default:
			at.rank = notScheduled
		}
	}
	return at
}

func (p *position) before(q *position) bool { return comparePositions(p, q) < 0 }

func comparePositions(p, q *position) int {
	if p.rank != q.rank {
		return cmp.Compare(p.rank, q.rank)
	}
	if byName := bytes.Compare(p.name, q.name); byName != 0 {
		return byName
	}
	return compareIDs(p.id, q.id)
}

// rememberedPlaces bounds the ends of parts that are remembered.
const rememberedPlaces = 4096

// places remembers where the parts of the fleet that were answered last ended, so that a
// walk goes on there although the tenant at its end has been rotated, renamed or deleted
// since.
type places = lru.Cache[place, position]

// place names the end of a part.
type place struct {
	sort Sort
	id   uuid.UUID
}

func newPlaces() *places {
	p, err := lru.New[place, position](rememberedPlaces)
	if err != nil {
		panic(err) // only for a size that is not positive
	}
	return p
}

// notePlace remembers where a part ends.
func (x *Index) notePlace(s Sort, part []position) {
	if len(part) == 0 {
		return
	}
	last := part[len(part)-1]
	last.name = bytes.Clone(last.name) // and not the names of its whole shard
	x.places.Add(place{s, last.id}, last)
}

// placeOf returns where the part of v begins that follows a tenant: where that tenant was
// when a part ended with it, or else where it is now.
func (x *Index) placeOf(v *view, after string) (*position, error) {
	id, err := uuid.Parse(after)
	if err != nil || id.String() != after {
		return nil, ErrAfter
	}
	if at, remembered := x.places.Get(place{v.sort, id}); remembered {
		return &at, nil
	}
	s := &x.shards[tenant.ShardOf(after)]
	s.mu.Lock()
	defer s.mu.Unlock()
	i, found := s.find(id)
	if !found {
		return nil, ErrAfter
	}
	one := &s.entries[i]
	at := v.position(one, v.due(one), bytes.Clone(s.names.of(one)))
	return &at, nil
}

// picker keeps the first positions of those that it is given, as many as limit. It sorts
// what it has once in limit times, so one costs little, in whatever order they come.
type picker struct {
	limit int
	have  []position
	last  *position // nil: there are not limit of them yet
}

func (p *picker) add(at position) {
	if p.last != nil && !at.before(p.last) {
		return
	}
	if p.have = append(p.have, at); len(p.have) >= 2*p.limit {
		p.sort()
	}
}

func (p *picker) sort() {
	slices.SortFunc(p.have, func(a, b position) int { return comparePositions(&a, &b) })
	if len(p.have) >= p.limit {
		p.have = p.have[:p.limit]
		last := p.have[p.limit-1]
		p.last = &last
	}
}

// best returns the first positions, sorted.
func (p *picker) best() []position {
	p.sort()
	return p.have
}
