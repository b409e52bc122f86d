// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package kekrotation

import (
	"context"
	"errors"
	"time"

	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/actor"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/keystore"
)

// dueReason is the reason of rotations that nobody has asked for.
const dueReason = "kek_rotation_interval has passed"

// startIfDue starts a rotation if the KEK is as old as it may get, and returns the
// record as it is then. r is what was read of it, without an unfinished rotation. The
// age of a KEK made before that was noted is counted from the first time that an engine
// comes here.
func (e *Engine) startIfDue(ctx context.Context, r *keystore.KEKRecord) (*keystore.KEKRecord, error) {
	due, err := e.dueAt(ctx, r)
	if err != nil || due.IsZero() || e.now().Before(due) {
		return r, err
	}
	from, started := r.KEKID, false
	r, err = e.keys.SwitchKEK(ctx, nil, func(now *keystore.KEKRecord) (*keystore.KEKRotation, error) {
		// A caller may have rotated it meanwhile.
		if started = now.KEKID == from && !now.Rotation.Unfinished(); !started {
			return nil, nil
		}
		return e.from(now, Request{Reason: dueReason, InitiatedBy: actor.System}), nil
	})
	if started && err == nil {
		e.log.Info("rotation of the key-encryption key started", "kek_id", r.KEKID, "reason", dueReason)
	}
	return r, err
}

// dueAt returns when the KEK in r is to be rotated by itself, zero if by hand alone. It
// begins to count where no date is known.
func (e *Engine) dueAt(ctx context.Context, r *keystore.KEKRecord) (time.Time, error) {
	c, err := e.settings.Config(ctx)
	if err != nil {
		return time.Time{}, err
	}
	since, err := e.since(ctx, r)
	if err == nil && since.IsZero() {
		since, err = e.countFromNow(ctx, r)
	}
	return due(since, c.KEKRotationInterval), err
}

func due(since time.Time, interval time.Duration) time.Time {
	if since.IsZero() || interval == 0 {
		return time.Time{}
	}
	return since.Add(interval)
}

// Age says how old the mount's KEK is.
type Age struct {
	Since   time.Time // from when it is counted; zero: there is no KEK, or it has no date yet
	Age     time.Duration
	DueAt   time.Time // when it is rotated by itself; zero: by hand alone
	Overdue bool      // that has passed, and no rotation has begun
}

// Age describes the age of the KEK, zero if there is none yet. It reads one entry, or
// two where it is not known when the KEK was made.
func (e *Engine) Age(ctx context.Context) (Age, error) {
	r, err := e.keys.KEK(ctx)
	if errors.Is(err, keystore.ErrNoKEK) {
		return Age{}, nil
	}
	if err != nil {
		return Age{}, err
	}
	return e.age(ctx, r)
}

func (e *Engine) age(ctx context.Context, r *keystore.KEKRecord) (Age, error) {
	c, err := e.settings.Config(ctx)
	if err != nil {
		return Age{}, err
	}
	since, err := e.since(ctx, r)
	if err != nil || since.IsZero() {
		return Age{}, err
	}
	a := Age{Since: since, Age: max(e.now().Sub(since), 0), DueAt: due(since, c.KEKRotationInterval)}
	a.Overdue = !a.DueAt.IsZero() && !e.now().Before(a.DueAt) && !r.Rotation.Unfinished()
	return a, nil
}

// Rotating reports whether a rotation of the KEK is unfinished.
func (e *Engine) Rotating(ctx context.Context) (bool, error) {
	r, err := e.keys.KEK(ctx)
	if errors.Is(err, keystore.ErrNoKEK) {
		return false, nil
	}
	return err == nil && r.Rotation.Unfinished(), err
}
