// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package rotation

import (
	"context"
	"fmt"
	"time"

	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/keyring"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/keystore"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/tenant"
)

// StateError reports an action that a rotation's state does not allow.
type StateError struct{ Message string }

func (e *StateError) Error() string { return e.Message }

// Action is what can be done to a rotation.
type Action string

// The actions. Each is one Put of the tenant's record.
const (
	Pause  Action = "pause"
	Resume Action = "resume"
	Cancel Action = "cancel"
	Retry  Action = "retry"
)

// Do carries out an action and returns the rotation as it is then, and its
// intent, which is to be carried out. An action that holds already changes
// nothing and is no error. It fails with [ErrNotFound] or a [StateError].
func (e *Engine) Do(ctx context.Context, tenantID, rotationID string, a Action) (*tenant.Rotation, *Intent, error) {
	defer e.tenants.Exclusive(tenantID)()
	t, err := e.tenants.Active(ctx, tenantID)
	if err != nil {
		return nil, nil, err
	}
	r, err := e.Find(ctx, t, rotationID)
	if err != nil {
		return nil, nil, err
	}
	next := t.Clone()
	if a == Retry {
		next.FailedInARow = 0 // somebody has looked into it
		return e.retry(ctx, t, next, r)
	}
	if t.Rotation == nil || t.Rotation.ID != rotationID {
		return nil, nil, &StateError{fmt.Sprintf("rotation %s has ended: it is %s", rotationID, statusOf[r.Phase])}
	}
	if a == Cancel && t.Rotation.Phase == tenant.Sweeping {
		if err := e.mayGoBack(ctx, t); err != nil {
			return nil, nil, err
		}
	}
	changed, err := e.change(next, a)
	if err != nil {
		return nil, nil, err
	}
	if changed {
		next.Rotation.UpdatedAt = e.now()
		if err := e.tenants.Commit(ctx, t, next); err != nil {
			return nil, nil, err
		}
	}
	return next.Rotation, intentOf(next), nil
}

// change makes the change that an action is in the record of an unfinished
// rotation; changed is false if it holds already.
func (e *Engine) change(next *tenant.Record, a Action) (changed bool, err error) {
	r := next.Rotation
	switch a {
	case Pause:
		if r.Phase == tenant.Retiring {
			return false, retiring(r)
		}
		changed = !r.Paused
		r.Paused = true
	case Resume:
		changed = r.Paused
		r.Paused = false
	case Cancel:
		switch r.Phase {
		case tenant.Retiring:
			return false, retiring(r)
		case tenant.RollingBack:
			return false, nil
		}
		next.Keys.Reactivate(r.From, e.now())
		r.Phase, r.Paused = tenant.RollingBack, false
		// What the old version seals from now on must open.
		next.MinDecryptionVersion = min(next.MinDecryptionVersion, r.From)
		changed = true
	default:
		return false, ErrNotFound
	}
	return changed, nil
}

// mayGoBack makes sure that the version that a cancel would make the active one
// has its key, which may have been destroyed by force before the rotation was
// retried, and that the key may go on sealing.
func (e *Engine) mayGoBack(ctx context.Context, t *tenant.Record) error {
	from, err := t.Keys.Usable(t.Rotation.From)
	if err == nil {
		err = e.keys.CheckPageKey(ctx, t.Owner(), from)
	}
	if keystore.IsGone(err) {
		return &StateError{fmt.Sprintf("rotation %s cannot be rolled back: the key of version %d is gone", t.Rotation.ID, t.Rotation.From)}
	}
	if err != nil {
		return err
	}
	return e.mustNotBeWorn(ctx, t, t.Rotation, from)
}

// mustNotBeWorn makes sure that the version that pages are to be sealed under
// has room for it: the rotation could neither end nor make way for another.
func (e *Engine) mustNotBeWorn(ctx context.Context, t *tenant.Record, r *tenant.Rotation, v *keyring.Version) error {
	worn, err := e.keys.IsOverLimit(ctx, t.Owner(), v)
	if err == nil && worn {
		err = &StateError{fmt.Sprintf("rotation %s cannot move pages to version %d: its key nears the %d messages that aes256-gcm allows",
			r.ID, v.Number, e.keys.SealLimit())}
	}
	return err
}

func retiring(r *tenant.Rotation) error {
	return &StateError{fmt.Sprintf("rotation %s is about to end: the old key is being retired", r.ID)}
}

// retry lets the latest rotation, which failed, go on: in the direction in which
// it went. The intent is written first, as for a start.
func (e *Engine) retry(ctx context.Context, t, next *tenant.Record, r *tenant.Rotation) (*tenant.Rotation, *Intent, error) {
	if t.Rotation != nil && t.Rotation.ID == r.ID && r.Retries > 0 {
		return r, intentOf(t), nil // it is being retried
	}
	if t.Rotation != nil || t.Last == nil || t.Last.ID != r.ID || r.Phase != tenant.Failed {
		return nil, nil, &StateError{fmt.Sprintf("rotation %s is %s: only the latest rotation can be retried, and only if it failed",
			r.ID, statusOf[r.Phase])}
	}
	if err := e.mustNotBeWorn(ctx, t, r, t.Keys.Active()); err != nil {
		return nil, nil, err
	}
	again := *r
	again.Phase = tenant.Sweeping
	if next.Keys.Active().Number == r.From {
		again.Phase = tenant.RollingBack
	}
	again.Retries++
	again.UpdatedAt = e.now()
	again.EndedAt = time.Time{}
	again.Failures, again.Failed = nil, 0
	next.Rotation, next.Last = &again, nil
	next.RotateAfter, next.RotateReason, next.RotateRequest = time.Time{}, "", ""
	intent := intentOf(next)
	id, err := e.intents.Put(ctx, *intent)
	if err != nil {
		return nil, nil, fmt.Errorf("writing the intent: %w", err)
	}
	intent.ID, again.IntentID = id, id
	if err := e.tenants.Commit(ctx, t, next); err != nil {
		return nil, nil, err
	}
	return next.Rotation, intent, nil
}

// TryAgain lets the latest rotation of a tenant, if it failed, go on, for the
// schedule: a page that does not open must not cost a version at each try. It
// fails with [ErrUnwanted] if wanted, asked under the tenant's lock, says no.
func (e *Engine) TryAgain(ctx context.Context, tenantID string, wanted func(*tenant.Record) bool) (*tenant.Rotation, *Intent, error) {
	defer e.tenants.Exclusive(tenantID)()
	t, err := e.tenants.Active(ctx, tenantID)
	if err != nil {
		return nil, nil, err
	}
	if t.Rotation != nil || t.Last == nil || t.Last.Phase != tenant.Failed || !wanted(t) {
		return nil, nil, ErrUnwanted
	}
	return e.retry(ctx, t, t.Clone(), t.Last)
}

// intentOf is the intent of t's unfinished rotation.
func intentOf(t *tenant.Record) *Intent {
	r := t.Rotation
	return &Intent{ID: r.IntentID, TenantID: t.ID, Incarnation: t.Incarnation, RotationID: r.ID, KeyID: r.ToKeyID}
}
