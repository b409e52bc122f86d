// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package evidencelog

import (
	"context"
	"fmt"
	"slices"

	"github.com/vault-plugin-dek/vault-plugin-dek/evidence"
)

// The index says which entries are about which tenant. All of it is derived from the
// entries, so nothing is lost with it, and a part may be written twice.
//
// A segment of level k has the records of 1,024 * 16^k entries, in 16^k parts by the
// first k digits of the hashed tenant. Sixteen segments make one of the next level. So
// looking a tenant up reads at most 15 parts of each level, and an entry is written
// once a level. Records of entries that no segment has yet are in memory.
const (
	fanout    = 16
	maxLevels = 8
)

func segmentSize(level int) int64 { return blockSize << (4 * level) }

// A segment is one of the index.
type segment struct {
	level int
	n     int64
}

func (s segment) first() int64 { return s.n * segmentSize(s.level) }

func (s segment) key(n place, part string, fragment int) string {
	if part == "" {
		part = "all"
	}
	return fmt.Sprintf("%s%d/%012d/%s/%06d", n.prefix("index"), s.level, s.n, part, fragment)
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

// readIndex finds which segments are built, and reads the entries beyond them.
func (l *Log) readIndex(ctx context.Context, t *tree) (recent []record, built []int64, err error) {
	for level := range maxLevels {
		if segmentSize(level) > t.size {
			break
		}
		n, err := l.countBuilt(ctx, t, level)
		if err != nil {
			return nil, nil, err
		}
		built = append(built, n)
	}
	var from int64
	if len(built) > 0 {
		from = built[0] * blockSize
	}
	recent, err = l.records(ctx, t, from, t.size)
	return recent, built, err
}

// countBuilt searches by halves: segments of a level are built in their order.
func (l *Log) countBuilt(ctx context.Context, t *tree, level int) (int64, error) {
	low, high := int64(0), t.size/segmentSize(level)
	for low < high {
		middle := low + (high-low)/2
		s := segment{level, middle}
		data, err := l.storage.Get(ctx, s.key(t.log, s.last(), 0))
		if err != nil && !skips(ctx) {
			return 0, fmt.Errorf("%w: %w", ErrDamaged, err)
		}
		if err == nil && data == nil { // one that is damaged is there
			high = middle
		} else {
			low = middle + 1
		}
	}
	return low, nil
}

// records makes the records of entries anew.
func (l *Log) records(ctx context.Context, t *tree, from, to int64) ([]record, error) {
	var all []record
	for from < to {
		end := min(to, (from/blockSize+1)*blockSize)
		err := l.eachLeaf(ctx, t, from, end, func(index int64, leaf []byte) {
			if event, err := evidence.Decode(leaf); err == nil {
				all = append(all, newRecord(event, index))
			}
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
func (l *Log) partRecords(ctx context.Context, t *tree, s segment, tenant [16]byte) ([]record, error) {
	part := partOf(tenant, s.level)
	first, err := l.read(ctx, s.key(t.log, part, 0))
	if err != nil {
		return nil, err
	}
	firsts, records, err := decodeFirst(first)
	if err != nil {
		return nil, err
	}
	var found []record
	for fragment := range firsts {
		if fragment > 0 {
			if slices.Compare(firsts[fragment][:], tenant[:]) > 0 {
				break
			}
			if fragment+1 < len(firsts) && slices.Compare(firsts[fragment+1][:], tenant[:]) < 0 {
				continue
			}
			data, err := l.read(ctx, s.key(t.log, part, fragment))
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
func (l *Log) segmentRecords(ctx context.Context, t *tree, s segment, tenant [16]byte) ([]record, error) {
	found, err := l.partRecords(ctx, t, s, tenant)
	if err == nil || ctx.Err() != nil {
		return found, err
	}
	l.report(err)
	all, err := l.records(ctx, t, s.first(), s.first()+segmentSize(s.level))
	if err != nil {
		return nil, err
	}
	return slices.DeleteFunc(all, func(r record) bool { return r.tenant != tenant }), nil
}

// view is what the index has at present: the largest segments that are built, and the
// records of the entries from rest on, which are in none.
func (l *Log) view() (segments []segment, rest int64, recent []record) {
	l.mu.RLock()
	defer l.mu.RUnlock()
	segments, rest = cover(l.built, l.tree.size)
	return segments, rest, l.recent
}

// lastRecord finds the record of the last event of a scope, nil if there is none.
func (l *Log) lastRecord(ctx context.Context, t *tree, s scope) (*record, error) {
	tenant, incarnation := s.tags()
	segments, rest, recent := l.view()
	match := func(r record) bool { return r.tenant == tenant && r.incarnation == incarnation && r.index < t.size }
	for _, r := range slices.Backward(recent) {
		if r.index >= rest && match(r) {
			return &r, nil
		}
	}
	for _, seg := range slices.Backward(segments) {
		records, err := l.segmentRecords(ctx, t, seg, tenant)
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

// find returns the records of a tenant that match, up to limit, in their order. Those
// of entries up to after are left out.
func (l *Log) find(ctx context.Context, t *tree, tenant [16]byte, after int64, limit int,
	match func(record) bool,
) ([]record, error) {
	var found []record
	take := func(records []record) {
		for _, r := range records {
			if r.index > after && r.index < t.size && len(found) < limit && r.tenant == tenant && match(r) {
				found = append(found, r)
			}
		}
	}
	segments, rest, recent := l.view()
	for _, s := range segments {
		if s.first()+segmentSize(s.level) <= after+1 {
			continue
		}
		records, err := l.segmentRecords(ctx, t, s, tenant)
		if err != nil {
			return nil, err
		}
		if take(records); len(found) == limit {
			return found, nil
		}
	}
	from, _ := slices.BinarySearchFunc(recent, rest, func(r record, at int64) int {
		return int(r.index - at)
	})
	take(recent[from:])
	return found, nil
}
