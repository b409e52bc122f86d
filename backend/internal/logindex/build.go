// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package logindex

import (
	"context"
	"fmt"
	"slices"

	"golang.org/x/sync/errgroup"
)

// Due reports whether Build has something to do.
func (x *Index) Due() bool {
	x.mu.RLock()
	defer x.mu.RUnlock()
	_, due := nextSegment(x.now.built, x.now.at.Size)
	return due
}

// Build builds the segments that the log has entries for, one after the other, beside
// Add and what looks up. It ends when nothing is left to build.
func (x *Index) Build(ctx context.Context) error {
	for {
		x.mu.RLock()
		t, built := x.now.at, slices.Clone(x.now.built)
		x.mu.RUnlock()
		s, due := nextSegment(built, t.Size)
		if !due {
			return nil
		}
		if err := x.buildSegment(ctx, t, s); err != nil {
			return err
		}
		x.segmentBuilt(t, s)
	}
}

// nextSegment returns a segment whose entries, or whose sixteen segments, are there.
func nextSegment(built []int64, size int64) (segment, bool) {
	for level := range maxLevels {
		var have int64
		if level < len(built) {
			have = built[level]
		}
		ready := size / segmentSize(0)
		if level > 0 {
			if level > len(built) {
				return segment{}, false
			}
			ready = built[level-1] / fanout
		}
		if have < ready {
			return segment{level, have}, true
		}
	}
	return segment{}, false
}

func (x *Index) segmentBuilt(t At, s segment) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.now.at.Log != t.Log {
		return // another log has begun meanwhile
	}
	for len(x.now.built) <= s.level {
		x.now.built = append(x.now.built, 0)
	}
	x.now.built[s.level] = s.n + 1
	if s.level == 0 {
		end := s.first() + segmentSize(0)
		x.now.recent = slices.DeleteFunc(slices.Clone(x.now.recent), func(r Record) bool { return r.Index < end })
	}
}

// buildSegment writes the parts of a segment, the one that says it is whole last.
func (x *Index) buildSegment(ctx context.Context, t At, s segment) error {
	if s.level == 0 {
		records, err := x.recentRecords(ctx, t, s)
		if err != nil {
			return err
		}
		return x.putPart(ctx, t, s, "", records)
	}
	count := int(segmentSize(s.level) / smallest)
	g, groupCtx := errgroup.WithContext(ctx)
	g.SetLimit(4) // it is in no hurry
	for i := 1; i < count; i++ {
		g.Go(func() error { return x.mergePart(groupCtx, t, s, fmt.Sprintf("%0*x", s.level, i)) })
	}
	if err := g.Wait(); err != nil {
		return err
	}
	return x.mergePart(ctx, t, s, s.last())
}

func (x *Index) recentRecords(ctx context.Context, t At, s segment) ([]Record, error) {
	_, _, recent := x.view()
	first, end := s.first(), s.first()+segmentSize(0)
	var records []Record
	for _, r := range recent {
		if r.Index >= first && r.Index < end {
			records = append(records, r)
		}
	}
	if int64(len(records)) == segmentSize(0) {
		return records, nil
	}
	return x.records(ctx, t, first, end)
}

// mergePart writes a part from those of the level below.
func (x *Index) mergePart(ctx context.Context, t At, s segment, part string) error {
	var records []Record
	for i := range int64(fanout) {
		below := segment{s.level - 1, s.n*fanout + i}
		all, err := x.wholePart(ctx, t, below, part[:below.level])
		if err != nil {
			return err
		}
		for _, r := range all {
			if r.part(s.level) == part {
				records = append(records, r)
			}
		}
	}
	return x.putPart(ctx, t, s, part, records)
}

// wholePart reads all records of a part, or makes them anew.
func (x *Index) wholePart(ctx context.Context, t At, s segment, part string) ([]Record, error) {
	records, err := x.readPart(ctx, t, s, part)
	if err == nil || ctx.Err() != nil {
		return records, err
	}
	x.report(err)
	records, err = x.records(ctx, t, s.first(), s.first()+segmentSize(s.level))
	if err != nil {
		return nil, err
	}
	return slices.DeleteFunc(records, func(r Record) bool { return r.part(s.level) != part }), nil
}

func (x *Index) readPart(ctx context.Context, t At, s segment, part string) ([]Record, error) {
	first, err := x.log.Read(ctx, s.key(t.Log, part, 0))
	if err != nil {
		return nil, err
	}
	firsts, records, err := decodeFirst(first)
	if err != nil {
		return nil, err
	}
	for fragment := 1; fragment < len(firsts); fragment++ {
		data, err := x.log.Read(ctx, s.key(t.Log, part, fragment))
		if err != nil {
			return nil, err
		}
		more, err := decodeRecords(data)
		if err != nil {
			return nil, err
		}
		records = append(records, more...)
	}
	return records, nil
}

func (x *Index) putPart(ctx context.Context, t At, s segment, part string, records []Record) error {
	fragments := encodeFragments(records)
	for i, data := range slices.Backward(fragments) {
		if err := x.log.Put(ctx, s.key(t.Log, part, i), data); err != nil {
			return err
		}
	}
	return nil
}
