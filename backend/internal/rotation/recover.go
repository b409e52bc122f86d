// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package rotation

import (
	"context"

	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/keyring"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/tenant"
)

// Recover decides by an intent what is left to do. It returns the run to go on with,
// or nil once nothing is left. The tenant's record alone decides:
//
//   - Its unfinished rotation is this one: go on by its phase, or, if it is
//     paused, fail with [ErrPaused].
//   - A version has the intent's key: the rotation is over. File its history,
//     which may have been missed, and delete the intent.
//   - Neither: it was never committed. Delete its key, then the intent.
//
// In the last two cases a Put of the record that failed, of a start or of a retry, may
// have taken effect behind a stale cache. Without the intent nothing would carry that
// out. So the record is first put again exactly as it was read.
//
// All of it happens under the tenant's exclusive lock: the intent may belong to a start
// that has not yet written the record.
func (e *Engine) Recover(ctx context.Context, intent Intent) (run *Run, err error) {
	err = e.tenants.Hold(ctx, intent.TenantID, func(h *tenant.Held) error {
		if intent.IsCreation() {
			return e.recoverCreation(ctx, h, intent)
		}
		run, err = e.resolve(ctx, h, intent)
		return err
	})
	return run, err
}

// resolve is Recover of a rotation.
func (e *Engine) resolve(ctx context.Context, h *tenant.Held, intent Intent) (*Run, error) {
	e.forget(intent.RotationID)
	t := h.Record()
	if t == nil || t.Incarnation != intent.Incarnation {
		return nil, e.undo(ctx, h, intent)
	}
	if r := t.Rotation; r != nil && r.ID == intent.RotationID {
		if r.Paused {
			return nil, ErrPaused
		}
		return e.newRun(t, intent), nil
	}
	if t.Keys.Match(func(v *keyring.Version) bool { return v.KeyID == intent.KeyID }) == nil {
		return nil, e.undo(ctx, h, intent)
	}
	if err := h.Fence(ctx); err != nil {
		return nil, err
	}
	if t.Rotation == nil {
		if err := e.tenants.DeleteProgress(ctx, t.Incarnation); err != nil {
			return nil, err
		}
	}
	return nil, e.close(ctx, t, intent)
}

// close files the history of an ended rotation and deletes its intent.
func (e *Engine) close(ctx context.Context, t *tenant.Record, intent Intent) error {
	if t.State != tenant.Shredding && t.Last != nil && t.Last.ID == intent.RotationID {
		if err := e.tenants.PutHistory(ctx, t, t.Last); err != nil {
			return err
		}
	}
	return e.intents.Delete(ctx, intent.ID)
}

// undo removes what a start that was never committed has left.
func (e *Engine) undo(ctx context.Context, h *tenant.Held, intent Intent) error {
	if err := h.Fence(ctx); err != nil {
		return err
	}
	if err := e.keys.DestroyKey(ctx, intent.Incarnation, intent.KeyID); err != nil {
		return err
	}
	return e.intents.Delete(ctx, intent.ID)
}
