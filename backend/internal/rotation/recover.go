// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package rotation

import (
	"context"

	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/intents"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/keyring"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/tenant"
)

// Recover decides by an intent what is left to do. It returns the run to go on with,
// or nil once nothing is left. The tenant's record alone decides:
//
//   - Its unfinished rotation is this one: go on by its phase, or, if it is
//     paused, fail with [ErrPaused].
//   - A version has the intent's key: the rotation is over. Delete the intent once the
//     evidence log has the end.
//   - Neither: it was never committed. Delete its key, then the intent.
//
// In the last two cases a Put of the record that failed, of a start or of a retry, may
// have taken effect behind a stale cache. Without the intent nothing would carry that
// out. So the record is first put again exactly as it was read.
//
// It decides under the tenant's exclusive lock, because the intent may belong to a start
// that has not yet written the record. Only the wait for the evidence log, and the deletion
// of the intent after it, come once the lock is released: see conclude.
func (e *Engine) Recover(ctx context.Context, intent intents.Intent) (run *Run, err error) {
	var over *tenant.Record
	err = e.tenants.Hold(ctx, intent.TenantID, func(h *tenant.Held) error {
		if intent.IsCreation() {
			return e.recoverCreation(ctx, h, intent)
		}
		run, over, err = e.resolve(ctx, h, intent)
		return err
	})
	if err != nil || over == nil {
		return run, err
	}
	return nil, e.conclude(ctx, over, intent)
}

// conclude deletes the intent of a rotation that is over, once the evidence log has what its
// record carries. It holds no lock: the log may not be writable for a while.
func (e *Engine) conclude(ctx context.Context, over *tenant.Record, intent intents.Intent) error {
	if err := e.tenants.AwaitLogged(ctx, over); err != nil {
		return err
	}
	return e.intents.Delete(ctx, intent.ID)
}

// resolve is Recover of a rotation. If that is over it returns the record that says so.
func (e *Engine) resolve(ctx context.Context, h *tenant.Held, intent intents.Intent) (run *Run, over *tenant.Record, err error) {
	e.forget(intent.RotationID) // the run of an earlier step, whose phase may be out of date
	t := h.Record()
	if t == nil || t.Incarnation != intent.Incarnation {
		return nil, nil, e.undo(ctx, h, intent)
	}
	if r := t.Rotation; r != nil && r.ID == intent.RotationID {
		if r.Paused {
			return nil, nil, ErrPaused
		}
		return e.newRun(t, intent), nil, nil
	}
	if t.Keys.Match(func(v *keyring.Version) bool { return v.KeyID == intent.KeyID }) == nil {
		return nil, nil, e.undo(ctx, h, intent)
	}
	if err := h.PutAsRead(ctx); err != nil {
		return nil, nil, err
	}
	if t.Rotation == nil {
		if err := e.tenants.DeleteProgress(ctx, t.Incarnation); err != nil {
			return nil, nil, err
		}
	}
	return nil, t, nil
}

// undo removes what a start that was never committed has left.
func (e *Engine) undo(ctx context.Context, h *tenant.Held, intent intents.Intent) error {
	if err := h.PutAsRead(ctx); err != nil {
		return err
	}
	if err := e.keys.DestroyKey(ctx, intent.Incarnation, intent.KeyID); err != nil {
		return err
	}
	return e.intents.Delete(ctx, intent.ID)
}
