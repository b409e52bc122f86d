// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package witnesses

import (
	"context"
	"errors"
	"fmt"

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
func (w *Store) Check(ctx context.Context, kept []byte) (more int64, err error) {
	p, err := w.log.Present(ctx)
	if err != nil {
		return 0, err
	}
	c, err := evidence.ParseCheckpoint(kept)
	if err != nil {
		return 0, err
	}
	if c.Origin != p.Origin {
		return 0, fmt.Errorf("%w: it is of another log", evidence.ErrCheckpoint)
	}
	key, err := w.log.Key(ctx)
	if err != nil {
		return 0, err
	}
	vkeys := append(key.Previous, key.VKey)
	// One that is longer may be signed by a key that went with what storage lost.
	if _, err := evidence.OpenCheckpoint(kept, vkeys...); err != nil && c.N <= p.Size {
		return 0, err
	}
	if c.N > p.Size {
		return c.N - p.Size, ErrWentBack
	}
	root, err := w.log.Root(ctx, c.N)
	switch {
	case err != nil:
		return 0, err
	case root != c.Hash:
		return 0, ErrForked
	}
	return 0, nil
}
