// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package evidencelog

import (
	"context"
	"fmt"

	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/logindex"
	"github.com/vault-plugin-dek/vault-plugin-dek/evidence"
)

// BuildIndex builds the segments of the index that the log has entries for, beside Work.
// It ends when nothing is left to build, with an error of a context that has ended or
// that Config.GiveUp named.
func (l *Log) BuildIndex(ctx context.Context) error { return l.insist(ctx, l.index.Build) }

// IndexDue reports whether BuildIndex has something to do.
func (l *Log) IndexDue() bool { return l.index.Due() }

// indexed is the log as its index sees it.
type indexed struct{ log *Log }

// Events implements [logindex.Log].
func (i indexed) Events(ctx context.Context, at logindex.At, from, to int64, f func(int64, *evidence.Event)) error {
	t := &tree{log: place(at.Log), size: at.Size}
	return i.log.eachLeaf(ctx, t, from, to, func(index int64, leaf []byte) {
		if event, err := evidence.Decode(leaf); err == nil {
			f(index, event)
		}
	})
}

// Read implements [logindex.Log].
func (i indexed) Read(ctx context.Context, key string) ([]byte, error) { return i.log.read(ctx, key) }

// Put implements [logindex.Log].
func (i indexed) Put(ctx context.Context, key string, value []byte) error {
	return i.log.put(ctx, key, value)
}

// Present implements [logindex.Log]. A damaged entry is there, where ctx says to
// pass over what cannot be read.
func (i indexed) Present(ctx context.Context, key string) (bool, error) {
	value, err := i.log.storage.Get(ctx, key)
	switch {
	case err == nil:
		return value != nil, nil
	case skips(ctx):
		return true, nil
	}
	return false, fmt.Errorf("%w: %w", ErrDamaged, err)
}
