// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package evidencelog

import (
	"context"
	"errors"
	"fmt"
	"time"

	"golang.org/x/mod/sumdb/tlog"

	"github.com/vault-plugin-dek/vault-plugin-dek/evidence"
)

// Errors of Check.
var (
	// ErrWentBack reports that the log is shorter than a checkpoint that was kept.
	ErrWentBack = errors.New("the log is shorter than the checkpoint that was kept: storage went back")
	// ErrForked reports that the log is not the one of a checkpoint that was kept.
	ErrForked = errors.New("the log is not the one of the checkpoint that was kept")
)

// Check compares the log with a checkpoint that was kept outside. It returns how many
// entries the kept one has more, with [ErrWentBack]; or [ErrForked], or the error of a
// checkpoint that is none of this log. It reads few tiles, however long the log is.
func (l *Log) Check(ctx context.Context, kept []byte) (more int64, err error) {
	t, err := l.snapshot(ctx)
	if err != nil {
		return 0, err
	}
	c, err := evidence.ParseCheckpoint(kept)
	if err != nil {
		return 0, err
	}
	if c.Origin != l.origin(t.log) {
		return 0, fmt.Errorf("%w: it is of another log", evidence.ErrCheckpoint)
	}
	l.mu.RLock()
	vkeys := l.keys.vkeys()
	l.mu.RUnlock()
	// One that is longer may be signed by a key that went with what storage lost.
	if _, err := evidence.OpenCheckpoint(kept, vkeys...); err != nil && c.N <= t.size {
		return 0, err
	}
	if c.N > t.size {
		return c.N - t.size, ErrWentBack
	}
	root, err := tlog.TreeHash(c.N, l.hashReader(ctx, t))
	switch {
	case err != nil:
		return 0, err
	case root != c.Hash:
		return 0, ErrForked
	}
	return 0, nil
}

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
