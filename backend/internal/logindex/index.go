// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package logindex

import (
	"context"
	"fmt"
	"slices"

	"github.com/vault-plugin-dek/vault-plugin-dek/evidence"
)

const (
	smallest  = 1024 // entries of a segment of level 0
	fanout    = 16
	maxLevels = 8
	// cachedFragments bounds what is kept decoded: most have some 1,024 records of 48
	// bytes, none more than 4,096. It holds the two lowest levels, which every lookup reads.
	cachedFragments = 256
)

func segmentSize(level int) int64 { return smallest << (4 * level) }

// A segment is one of the index.
type segment struct {
	level int
	n     int64
}

func (s segment) first() int64 { return s.n * segmentSize(s.level) }

// key names a fragment of a part in storage; log is the number of the log.
func (s segment) key(log int64, part string, fragment int) string {
	if part == "" {
		part = "all"
	}
	return fmt.Sprintf("evidence/log/%06d/index/%d/%012d/%s/%06d", log, s.level, s.n, part, fragment)
}

// last is the part that is written last: its presence says that the segment is whole.
func (s segment) last() string { return partOf([16]byte{}, s.level) }

// cover returns the segments that have the entries from first on, the largest that are
// built, and the index from which on entries are in none.
func cover(built []int64, size int64) (segments []segment, rest int64) {
	var at int64
	for {
		found := false
		for level := len(built) - 1; level >= 0 && !found; level-- {
			span := segmentSize(level)
			if n := at / span; at%span == 0 && n < built[level] && at+span <= size {
				segments = append(segments, segment{level, n})
				at += span
				found = true
			}
		}
		if !found {
			return segments, at
		}
	}
}

// countBuilt searches by halves: segments of a level are built in their order.
func (x *Index) countBuilt(ctx context.Context, t At, level int) (int64, error) {
	low, high := int64(0), t.Size/segmentSize(level)
	for low < high {
		middle := low + (high-low)/2
		s := segment{level, middle}
		present, err := x.log.Present(ctx, s.key(t.Log, s.last(), 0))
		if err != nil {
			return 0, err
		}
		if present {
			low = middle + 1
		} else {
			high = middle
		}
	}
	return low, nil
}

// records makes the records of entries anew.
func (x *Index) records(ctx context.Context, t At, from, to int64) ([]Record, error) {
	var all []Record
	for from < to {
		end := min(to, (from/smallest+1)*smallest)
		err := x.log.Events(ctx, t, from, end, func(index int64, event *evidence.Event) {
			all = append(all, newRecord(event, index))
		})
		if err != nil {
			return nil, err
		}
		from = end
	}
	return all, nil
}

// A fragment is one entry of a part, decoded.
type fragment struct {
	firsts  [][16]byte // in the first of a part: the first tenant of each of its fragments
	records []Record
}

// fragment reads an entry of a part. What is in storage under its key never changes.
func (x *Index) fragment(ctx context.Context, t At, s segment, part string, n int) (*fragment, error) {
	key := s.key(t.Log, part, n)
	if f, found := x.fragments.Get(key); found {
		return f, nil
	}
	data, err := x.log.Read(ctx, key)
	if err != nil {
		return nil, err
	}
	f := &fragment{}
	if n == 0 {
		f.firsts, f.records, err = decodeFirst(data)
	} else {
		f.records, err = decodeRecords(data)
	}
	if err != nil {
		return nil, err
	}
	x.fragments.Add(key, f)
	return f, nil
}

// of returns a copy of the records of a tenant, which lie together.
func (f *fragment) of(tenant [16]byte) []Record {
	from, _ := slices.BinarySearchFunc(f.records, tenant, func(r Record, tenant [16]byte) int {
		return slices.Compare(r.tenant[:], tenant[:])
	})
	to := from
	for to < len(f.records) && f.records[to].tenant == tenant {
		to++
	}
	return slices.Clone(f.records[from:to])
}

// partRecords reads what a segment has of a tenant.
func (x *Index) partRecords(ctx context.Context, t At, s segment, tenant [16]byte) ([]Record, error) {
	part := partOf(tenant, s.level)
	first, err := x.fragment(ctx, t, s, part, 0)
	if err != nil {
		return nil, err
	}
	found := first.of(tenant)
	for n := 1; n < len(first.firsts) && slices.Compare(first.firsts[n][:], tenant[:]) <= 0; n++ {
		if n+1 < len(first.firsts) && slices.Compare(first.firsts[n+1][:], tenant[:]) < 0 {
			continue
		}
		f, err := x.fragment(ctx, t, s, part, n)
		if err != nil {
			return nil, err
		}
		found = append(found, f.of(tenant)...)
	}
	return found, nil
}

// segmentRecords is partRecords, from the entries themselves where the part cannot be
// read.
func (x *Index) segmentRecords(ctx context.Context, t At, s segment, tenant [16]byte) ([]Record, error) {
	found, err := x.partRecords(ctx, t, s, tenant)
	if err == nil || ctx.Err() != nil {
		return found, err
	}
	x.report(err)
	all, err := x.records(ctx, t, s.first(), s.first()+segmentSize(s.level))
	if err != nil {
		return nil, err
	}
	return slices.DeleteFunc(all, func(r Record) bool { return r.tenant != tenant }), nil
}
