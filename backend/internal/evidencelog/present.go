// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package evidencelog

import (
	"context"
	"fmt"
	"slices"
	"time"

	"golang.org/x/mod/sumdb/tlog"

	"github.com/vault-plugin-dek/vault-plugin-dek/evidence"
)

// Present is what the log has at present.
type Present struct {
	// Note is nil while the log has no entry.
	Note     []byte
	Origin   string
	Size     int64
	RootHash string
	// SignedAt is when this process signed it; for a checkpoint of an earlier process,
	// the time of its last entry.
	SignedAt time.Time
}

// Present describes the present checkpoint.
func (l *Log) Present(ctx context.Context) (*Present, error) {
	t, err := l.snapshot(ctx)
	if err != nil {
		return nil, err
	}
	p := &Present{
		Note: t.note, Origin: l.origin(t.log), Size: t.size, RootHash: t.root.String(), SignedAt: t.signedAt,
	}
	if t.size > 0 && p.SignedAt.IsZero() {
		event, err := l.event(ctx, t, t.size-1)
		if err != nil {
			return nil, err
		}
		p.SignedAt = event.Time
	}
	return p, nil
}

// event reads and decodes an entry that counts.
func (l *Log) event(ctx context.Context, t *tree, index int64) (*evidence.Event, error) {
	leaves, err := l.leaves(ctx, t, index, index+1)
	if err != nil {
		return nil, err
	}
	event, err := evidence.Decode(leaves[0])
	if err != nil {
		return nil, fmt.Errorf("%w: entry %d: %w", ErrDamaged, index, err)
	}
	return event, nil
}

// Root returns the root of the first entries, of as many as size says, and
// [ErrNotFound] beyond the log. It reads few tiles, however long the log is.
func (l *Log) Root(ctx context.Context, size int64) (tlog.Hash, error) {
	t, err := l.snapshot(ctx)
	if err != nil {
		return tlog.Hash{}, err
	}
	if size < 0 || size > t.size {
		return tlog.Hash{}, ErrNotFound
	}
	return tlog.TreeHash(size, l.hashReader(ctx, t))
}

// Sizes lists the sizes of the last checkpoints, newest first: at least those of the
// last 1,024 entries.
func (l *Log) Sizes(ctx context.Context) ([]int64, error) {
	t, err := l.snapshot(ctx)
	if err != nil || t.size == 0 {
		return nil, err
	}
	var all []int64
	for block := max(blockOf(t.size)-1, 0); block <= blockOf(t.size); block++ {
		found, err := l.spansOf(ctx, t.log, t.size, block)
		if err != nil {
			return nil, err
		}
		for _, s := range found {
			all = append(all, s.end)
		}
	}
	slices.Reverse(all)
	return all, nil
}
