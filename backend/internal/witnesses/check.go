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
	// ErrLogGone reports a checkpoint of a later log of this mount.
	ErrLogGone = errors.New("the log of the checkpoint that was kept is not there any more: storage went back")
	// ErrOtherLog reports a checkpoint that cannot be compared with this log.
	ErrOtherLog = errors.New("checkpoint must be one of this log")
)

// Check compares the log with a checkpoint that was kept outside. It returns how many
// entries the kept one has more, with [ErrWentBack] or [ErrLogGone]; or [ErrForked],
// [ErrOtherLog], or the error of a text that is no checkpoint. It reads few tiles,
// however long the log is.
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
		return ofAnotherLog(c, p.Origin)
	}
	key, err := w.log.Key(ctx)
	if err != nil {
		return 0, err
	}
	vkeys := append(key.Previous, key.VKey)
	// One that is longer may be signed by a key that went with what storage lost.
	_, err = evidence.OpenCheckpoint(kept, vkeys...)
	if err != nil && (c.N <= p.Size || errors.Is(err, evidence.ErrForged)) {
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

// ofAnotherLog says what a checkpoint of another origin means. Logs of a mount are numbered
// in their order, so one of a later log was kept before storage went back.
func ofAnotherLog(c *evidence.Checkpoint, present string) (more int64, err error) {
	keptMount, kept, err := evidence.ParseOrigin(c.Origin)
	if err != nil {
		return 0, err
	}
	mount, number, err := evidence.ParseOrigin(present)
	switch {
	case err != nil:
		return 0, err
	case keptMount != mount:
		return 0, fmt.Errorf("%w: it is of another mount", ErrOtherLog)
	case kept > number:
		return c.N, fmt.Errorf("%w; it was log %d of this mount, which has log %d now", ErrLogGone, kept, number)
	default:
		return 0, fmt.Errorf("%w: it is of log %d of this mount, which log %d has followed", ErrOtherLog, kept, number)
	}
}
