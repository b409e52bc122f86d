// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package evidencelog

import (
	"context"
	"fmt"
	"slices"

	"golang.org/x/sync/errgroup"
)

// BuildIndex builds the segments of the index that the log has entries for, one after
// the other, beside Work. It ends when nothing is left to build, with an error of a
// context that has ended or that Config.GiveUp named.
func (l *Log) BuildIndex(ctx context.Context) error { return l.insist(ctx, l.buildIndex) }

// IndexDue reports whether BuildIndex has something to do.
func (l *Log) IndexDue() bool {
	l.mu.RLock()
	defer l.mu.RUnlock()
	if l.tree == nil {
		return false
	}
	_, due := nextSegment(l.built, l.tree.size)
	return due
}

func (l *Log) buildIndex(ctx context.Context) error {
	for {
		l.mu.RLock()
		t, built := l.tree, slices.Clone(l.built)
		l.mu.RUnlock()
		if t == nil {
			return nil
		}
		s, due := nextSegment(built, t.size)
		if !due {
			return nil
		}
		if err := l.buildSegment(ctx, t, s); err != nil {
			return err
		}
		l.segmentBuilt(t, s)
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

func (l *Log) segmentBuilt(t *tree, s segment) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.tree.log != t.log {
		return // another log has begun meanwhile
	}
	for len(l.built) <= s.level {
		l.built = append(l.built, 0)
	}
	l.built[s.level] = s.n + 1
	if s.level == 0 {
		end := s.first() + segmentSize(0)
		l.recent = slices.DeleteFunc(slices.Clone(l.recent), func(r record) bool { return r.index < end })
	}
}

// buildSegment writes the parts of a segment, the one that says it is whole last.
func (l *Log) buildSegment(ctx context.Context, t *tree, s segment) error {
	if s.level == 0 {
		records, err := l.recentRecords(ctx, t, s)
		if err != nil {
			return err
		}
		return l.putPart(ctx, t, s, "", records)
	}
	count := int(segmentSize(s.level) / blockSize)
	g, groupCtx := errgroup.WithContext(ctx)
	g.SetLimit(4) // it is in no hurry
	for i := 1; i < count; i++ {
		g.Go(func() error { return l.mergePart(groupCtx, t, s, fmt.Sprintf("%0*x", s.level, i)) })
	}
	if err := g.Wait(); err != nil {
		return err
	}
	return l.mergePart(ctx, t, s, s.last())
}

func (l *Log) recentRecords(ctx context.Context, t *tree, s segment) ([]record, error) {
	_, _, recent := l.view()
	first, end := s.first(), s.first()+segmentSize(0)
	var records []record
	for _, r := range recent {
		if r.index >= first && r.index < end {
			records = append(records, r)
		}
	}
	if int64(len(records)) == segmentSize(0) {
		return records, nil
	}
	return l.records(ctx, t, first, end)
}

// mergePart writes a part from those of the level below.
func (l *Log) mergePart(ctx context.Context, t *tree, s segment, part string) error {
	var records []record
	for i := range int64(fanout) {
		below := segment{s.level - 1, s.n*fanout + i}
		all, err := l.wholePart(ctx, t, below, part[:below.level])
		if err != nil {
			return err
		}
		for _, r := range all {
			if r.part(s.level) == part {
				records = append(records, r)
			}
		}
	}
	return l.putPart(ctx, t, s, part, records)
}

// wholePart reads all records of a part, or makes them anew.
func (l *Log) wholePart(ctx context.Context, t *tree, s segment, part string) ([]record, error) {
	records, err := l.readPart(ctx, t, s, part)
	if err == nil || ctx.Err() != nil {
		return records, err
	}
	l.report(err)
	records, err = l.records(ctx, t, s.first(), s.first()+segmentSize(s.level))
	if err != nil {
		return nil, err
	}
	return slices.DeleteFunc(records, func(r record) bool { return r.part(s.level) != part }), nil
}

func (l *Log) readPart(ctx context.Context, t *tree, s segment, part string) ([]record, error) {
	first, err := l.read(ctx, s.key(t.log, part, 0))
	if err != nil {
		return nil, err
	}
	firsts, records, err := decodeFirst(first)
	if err != nil {
		return nil, err
	}
	for fragment := 1; fragment < len(firsts); fragment++ {
		data, err := l.read(ctx, s.key(t.log, part, fragment))
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

func (l *Log) putPart(ctx context.Context, t *tree, s segment, part string, records []record) error {
	fragments := encodeFragments(records)
	for i, data := range slices.Backward(fragments) {
		if err := l.put(ctx, s.key(t.log, part, i), data); err != nil {
			return err
		}
	}
	return nil
}
