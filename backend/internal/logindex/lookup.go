// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package logindex

import (
	"context"
	"errors"
	"slices"
	"sync"

	lru "github.com/hashicorp/golang-lru/v2"

	"github.com/vault-plugin-dek/vault-plugin-dek/evidence"
)

// ErrDamaged reports a part of the index that cannot be decoded.
var ErrDamaged = errors.New("a part of the index is damaged")

// At is a log as of one checkpoint: the number of the log, and how many entries count.
type At struct{ Log, Size int64 }

// A Log has the entries that are indexed, and the storage of both.
type Log interface {
	// Events calls f for the event of each entry, in order. An entry that has none is
	// left out.
	Events(ctx context.Context, at At, from, to int64, f func(index int64, event *evidence.Event)) error
	// Read returns an entry in storage, which must be there.
	Read(ctx context.Context, key string) ([]byte, error)
	// Present reports whether an entry is in storage.
	Present(ctx context.Context, key string) (bool, error)
	// Put writes an entry, again and again until that succeeds or ctx ends.
	Put(ctx context.Context, key string, value []byte) error
}

// Index is the index of a mount's log. It is safe for concurrent use. Before Install it
// has nothing.
type Index struct {
	log    Log
	report func(error)

	fragments *lru.Cache[string, *fragment]

	mu  sync.RWMutex
	now Contents
}

// Contents is what an index has of a log as of a checkpoint.
type Contents struct {
	at     At
	built  []int64  // complete segments, by level
	recent []Record // of the entries that no segment has yet
}

// New returns an index of a log. report is told of each part that cannot be read and is
// made again.
func New(log Log, report func(error)) *Index {
	x := &Index{log: log, report: report}
	x.fragments, _ = lru.New[string, *fragment](cachedFragments) // fails only for a size of 0
	return x
}

// Load finds which segments are built, and reads the entries beyond them. What it returns
// is for Install.
func (x *Index) Load(ctx context.Context, at At) (Contents, error) {
	c := Contents{at: at}
	for level := range maxLevels {
		if segmentSize(level) > at.Size {
			break
		}
		n, err := x.countBuilt(ctx, at, level)
		if err != nil {
			return Contents{}, err
		}
		c.built = append(c.built, n)
	}
	var from int64
	if len(c.built) > 0 {
		from = c.built[0] * segmentSize(0)
	}
	var err error
	c.recent, err = x.records(ctx, at, from, at.Size)
	return c, err
}

// Install replaces what the index has. The log calls it before it shows the checkpoint
// to readers.
func (x *Index) Install(c Contents) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.now = c
}

// Add takes the events of the entries that follow those that the index has. The log
// calls it before it shows the checkpoint with them to readers.
func (x *Index) Add(events []*evidence.Event) {
	x.mu.Lock()
	defer x.mu.Unlock()
	for _, event := range events {
		x.now.recent = append(x.now.recent, newRecord(event, x.now.at.Size))
		x.now.at.Size++
	}
}

// view is what the index has at present: the largest segments that are built, and the
// records of the entries from rest on, which are in none.
func (x *Index) view() (segments []segment, rest int64, recent []Record) {
	x.mu.RLock()
	defer x.mu.RUnlock()
	segments, rest = cover(x.now.built, x.now.at.Size)
	return segments, rest, x.now.recent
}

// Last finds the record of the last event of a sequence, nil if there is none.
func (x *Index) Last(ctx context.Context, t At, s Scope) (*Record, error) {
	tenant, incarnation := s.tags()
	segments, rest, recent := x.view()
	match := func(r Record) bool { return r.tenant == tenant && r.incarnation == incarnation && r.Index < t.Size }
	for _, r := range slices.Backward(recent) {
		if r.Index >= rest && match(r) {
			return &r, nil
		}
	}
	for _, seg := range slices.Backward(segments) {
		records, err := x.segmentRecords(ctx, t, seg, tenant)
		if err != nil {
			return nil, err
		}
		for _, r := range slices.Backward(records) {
			if match(r) {
				return &r, nil
			}
		}
	}
	return nil, nil //nolint:nilnil // there is none
}

// Event finds the record of an event by its ID, nil if there is none. Where seq is not 0,
// the event must also have that place in its sequence.
func (x *Index) Event(ctx context.Context, t At, s Scope, eventID string, seq int64) (*Record, error) {
	tenant, incarnation := s.tags()
	tag := TagOf(eventID)
	found, err := x.find(ctx, t, tenant, -1, 1, func(r Record) bool {
		return r.incarnation == incarnation && r.Event == tag && (seq == 0 || r.Seq == seq)
	})
	if err != nil || len(found) == 0 {
		return nil, err
	}
	return &found[0], nil
}

// Tenant lists the indexes of the entries about a tenant, up to limit, that come after an
// index. The first are after -1.
func (x *Index) Tenant(ctx context.Context, t At, tenantID string, after int64, limit int) ([]int64, error) {
	records, err := x.find(ctx, t, tenantTag(tenantID), after, limit, func(Record) bool { return true })
	if err != nil {
		return nil, err
	}
	indexes := make([]int64, 0, len(records))
	for _, r := range records {
		indexes = append(indexes, r.Index)
	}
	return indexes, nil
}

// find returns the records of a tenant that match, up to limit, in their order. Those
// of entries up to after are left out.
func (x *Index) find(ctx context.Context, t At, tenant [16]byte, after int64, limit int,
	match func(Record) bool,
) ([]Record, error) {
	var found []Record
	take := func(records []Record) {
		for _, r := range records {
			if r.Index > after && r.Index < t.Size && len(found) < limit && r.tenant == tenant && match(r) {
				found = append(found, r)
			}
		}
	}
	segments, rest, recent := x.view()
	for _, s := range segments {
		if s.first()+segmentSize(s.level) <= after+1 {
			continue
		}
		records, err := x.segmentRecords(ctx, t, s, tenant)
		if err != nil {
			return nil, err
		}
		if take(records); len(found) == limit {
			return found, nil
		}
	}
	from, _ := slices.BinarySearchFunc(recent, rest, func(r Record, at int64) int {
		return int(r.Index - at)
	})
	take(recent[from:])
	return found, nil
}
