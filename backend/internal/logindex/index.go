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

// partRecords reads what a segment has of a tenant, or nil if its part cannot be read
// and unreadable entries are skipped.
func (x *Index) partRecords(ctx context.Context, t At, s segment, tenant [16]byte) ([]Record, error) {
	part := partOf(tenant, s.level)
	first, err := x.log.Read(ctx, s.key(t.Log, part, 0))
	if err != nil {
		return nil, err
	}
	firsts, records, err := decodeFirst(first)
	if err != nil {
		return nil, err
	}
	var found []Record
	for fragment := range firsts {
		if fragment > 0 {
			if slices.Compare(firsts[fragment][:], tenant[:]) > 0 {
				break
			}
			if fragment+1 < len(firsts) && slices.Compare(firsts[fragment+1][:], tenant[:]) < 0 {
				continue
			}
			data, err := x.log.Read(ctx, s.key(t.Log, part, fragment))
			if err != nil {
				return nil, err
			}
			if records, err = decodeRecords(data); err != nil {
				return nil, err
			}
		}
		for _, r := range records {
			if r.tenant == tenant {
				found = append(found, r)
			}
		}
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
