// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package rotation

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/intents"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/keyring"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/keystore"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/tenant"
)

// StateError reports an action that a rotation's state does not allow.
type StateError = tenant.StateError

// ErrState is what every [StateError] is.
var ErrState = tenant.ErrState

// Action is an action on a rotation.
type Action string

// The actions. Each is one Put of the tenant's record; Retry writes an intent before it.
const (
	Pause  Action = "pause"
	Resume Action = "resume"
	Cancel Action = "cancel"
	Retry  Action = "retry"
)

// Do carries out an action, and returns the rotation as it is then. An action whose
// result holds already changes nothing and is no error. It fails with [ErrNotFound] or
// a [StateError].
func (e *Engine) Do(ctx context.Context, tenantID, rotationID string, a Action) (r *tenant.Rotation, err error) {
	var intent intents.Intent
	err = e.tenants.Hold(ctx, tenantID, func(h *tenant.Held) error {
		if r, err = e.do(ctx, h, rotationID, a); err == nil {
			intent = intents.Of(h.Record())
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	e.Drive(intent)
	return r, nil
}

func (e *Engine) do(ctx context.Context, h *tenant.Held, rotationID string, a Action) (*tenant.Rotation, error) {
	t, err := h.Active()
	if err != nil {
		return nil, err
	}
	r, err := e.Find(ctx, t, rotationID)
	if err != nil {
		return nil, err
	}
	if a == Retry {
		return e.retry(ctx, h, r, true)
	}
	if t.Rotation == nil || t.Rotation.ID != rotationID {
		return nil, &StateError{Message: fmt.Sprintf("rotation %s has ended: it is %s", rotationID, statusOf[r.Phase])}
	}
	if a == Cancel && t.Rotation.Phase == tenant.Sweeping {
		if err := e.mayGoBack(ctx, t); err != nil {
			return nil, err
		}
	}
	t, err = h.Update(ctx, func(next *tenant.Record) error { return e.change(ctx, next, a) })
	if err != nil {
		return nil, err
	}
	return t.Rotation, nil
}

// change applies an action to the record of an unfinished rotation.
func (e *Engine) change(ctx context.Context, next *tenant.Record, a Action) error {
	r := next.Rotation
	if r.Phase == tenant.Retiring && (a == Pause || a == Cancel) {
		return retiring(r)
	}
	switch a {
	case Pause, Resume:
		if r.Paused == (a == Pause) {
			return tenant.ErrUnchanged
		}
		r.Paused = a == Pause
	case Cancel:
		if r.Phase == tenant.RollingBack {
			return tenant.ErrUnchanged
		}
		next.Keys.Reactivate(r.From, e.now())
		r.Phase, r.Paused = tenant.RollingBack, false
		// What the old version seals from now on must open.
		if err := e.destruction.SetMinimum(ctx, next, min(next.MinDecryptionVersion, r.From)); err != nil {
			return err
		}
	default:
		return ErrNotFound
	}
	r.UpdatedAt = e.now()
	return nil
}

// mayGoBack makes sure that the version that a cancel would make the active one
// has its key, which may have been destroyed by force before the rotation was
// retried, and that the key may go on sealing.
func (e *Engine) mayGoBack(ctx context.Context, t *tenant.Record) error {
	from, err := t.Keys.Usable(t.Rotation.From)
	if err == nil {
		err = e.keys.CheckPageKey(ctx, t.Owner(), from)
	}
	if keystore.CannotOpen(err) {
		return &StateError{Message: fmt.Sprintf("rotation %s cannot be rolled back: the key of version %d is gone", t.Rotation.ID, t.Rotation.From)}
	}
	if err != nil {
		return err
	}
	return e.mustNotBeOverLimit(ctx, t, t.Rotation, from)
}

// mustNotBeOverLimit makes sure that the version that pages are to be sealed under
// has room for it: the rotation could neither end nor make way for another.
func (e *Engine) mustNotBeOverLimit(ctx context.Context, t *tenant.Record, r *tenant.Rotation, v *keyring.Version) error {
	worn, err := e.keys.IsOverLimit(ctx, t.Owner(), v)
	if err == nil && worn {
		err = &StateError{Message: fmt.Sprintf("rotation %s cannot move pages to version %d: its key nears the %d messages that aes256-gcm allows",
			r.ID, v.Number, e.keys.SealLimit())}
	}
	return err
}

func retiring(r *tenant.Rotation) error {
	return &StateError{Message: fmt.Sprintf("rotation %s is about to end: the old key is being retired", r.ID)}
}

// retry resumes the latest rotation, which failed, in the direction in which it went.
// The intent is written first, as for a start. If the Put of the record then fails, nobody
// drives that intent until Vault's next tick lists the log; Recover settles what became of
// the Put. asked says that a person has looked into the failure: then failures are counted
// from the beginning.
func (e *Engine) retry(ctx context.Context, h *tenant.Held, r *tenant.Rotation, asked bool) (*tenant.Rotation, error) {
	t := h.Record()
	if t.Rotation != nil && t.Rotation.ID == r.ID && r.Retries > 0 {
		return r, nil // it is being retried
	}
	if err := e.mustBeRetriable(ctx, t, r); err != nil {
		return nil, err
	}
	again := *r
	if t.GivenUp != nil { // since it failed
		usage, err := e.items.Usage(ctx, t)
		if err != nil {
			return nil, err
		}
		again.Lost = lostItems(t, usage)
	}
	again.Phase = tenant.Sweeping
	if t.Keys.Active().Number == r.From {
		again.Phase = tenant.RollingBack
	}
	again.Retries++
	again.UpdatedAt = e.now()
	again.EndedAt = time.Time{}
	again.Failures, again.Failed = nil, 0
	id, err := e.intents.Put(ctx, intents.Intent{TenantID: t.ID, Incarnation: t.Incarnation, RotationID: again.ID, KeyID: again.ToKeyID})
	if err != nil {
		return nil, fmt.Errorf("writing the intent: %w", err)
	}
	again.IntentID = id
	_, err = h.Update(ctx, func(next *tenant.Record) error {
		next.Rotation, next.Last = &again, nil
		next.RotateAfter = time.Time{} // what is owed stays: it is served by the end
		if err := e.logStart(ctx, next); err != nil {
			return err
		}
		if asked {
			next.FailedInARow = 0
		}
		return nil
	})
	return &again, err
}

// mustBeRetriable refuses to retry a rotation that is not the latest, that has not failed,
// or that would fail again.
func (e *Engine) mustBeRetriable(ctx context.Context, t *tenant.Record, r *tenant.Rotation) error {
	if t.Rotation != nil || t.Last == nil || t.Last.ID != r.ID || r.Phase != tenant.Failed {
		return &StateError{Message: fmt.Sprintf("rotation %s is %s: only the latest rotation can be retried, and only if it failed",
			r.ID, Status(r))}
	}
	if err := e.mustNotBeOverLimit(ctx, t, r, t.Keys.Active()); err != nil {
		return err
	}
	return e.mustOpen(ctx, t)
}

// ErrTargetUnusable reports a failed rotation that would fail again, because the key that
// it moves pages to does not open. A new rotation makes another.
var ErrTargetUnusable = errors.New("the key that it moves pages to does not open")

// mustOpen makes sure that pages can be sealed under the active version of t.
func (e *Engine) mustOpen(ctx context.Context, t *tenant.Record) error {
	err := e.keys.CheckPageKey(ctx, t.Owner(), t.Keys.Active())
	if keystore.CannotOpen(err) {
		return fmt.Errorf("%w: %w", ErrTargetUnusable,
			&StateError{Message: fmt.Sprintf("the key of version %d does not open: start a new rotation", t.Keys.Active().Number)})
	}
	return err
}

// RetryFailed lets the latest rotation of a tenant go on, if it failed. It is for the
// schedule: a page that does not open must not cost a version at each try. wanted is
// called under the tenant's lock; if it returns false, RetryFailed fails with
// [ErrUnwanted]. It fails with [ErrTargetUnusable]. then is as in [Request].
func (e *Engine) RetryFailed(ctx context.Context, tenantID string, wanted func(*tenant.Record) bool, then func(bool)) (r *tenant.Rotation, err error) {
	var intent intents.Intent
	err = e.tenants.Hold(ctx, tenantID, func(h *tenant.Held) error {
		t, err := h.Active()
		if err != nil {
			return err
		}
		if t.Rotation != nil || t.Last == nil || t.Last.Phase != tenant.Failed || !wanted(t) {
			return ErrUnwanted
		}
		if r, err = e.retry(ctx, h, t.Last, false); err == nil {
			intent = intents.Of(h.Record())
		}
		return err
	})
	if err != nil {
		then(false)
		return nil, err
	}
	e.drive(intent, func() { then(true) })
	return r, nil
}
