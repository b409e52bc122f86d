// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package kekrotation

import (
	"context"
	"errors"
	"fmt"

	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/actor"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/jobs"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/keyring"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/keystore"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/settings"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/storage"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/tenant"
)

// StartTenant starts a move of a tenant's keys: to a KEK of its own under the provider that
// the request names, or, if that is empty, to the mount's. Without a name it is a rotation
// where the keys are. It returns the tenant's record as it is then, and whether this request
// started the move. It fails with [tenant.ErrNotFound], [tenant.ErrDeleting], a
// [RunningError], [keystore.ErrTenantProvider] or an error of the provider. After any other
// error the move may still have started; the job that drives it decides that.
func (e *Engine) StartTenant(ctx context.Context, tenantID string, req Request) (t *tenant.Record, started bool, err error) {
	defer e.DriveTenant(tenantID)
	err = e.keys.WithOwnKEK(ctx, func(ready *keystore.PreparedKEK) error {
		t, err = e.tenants.Update(ctx, tenantID, func(next *tenant.Record) error {
			started = false
			if err := next.Usable(); err != nil {
				return err
			}
			now := next.OwnKEK()
			if last := now.Rotation; last != nil && last.IdempotencyKey == req.IdempotencyKey {
				return tenant.ErrUnchanged
			}
			if now.Rotation.Unfinished() {
				return &RunningError{KEKID: now.KEKID}
			}
			started = true
			if next.KEK, err = e.switchTenant(ctx, next.Owner(), &now, req, ready); err != nil {
				return err
			}
			return e.logMove(ctx, next, &now)
		})
		return err
	})
	return t, started && err == nil, err
}

// switchTenant returns what a tenant's record says of its KEK once the move has started: the
// Put of that is the commit point. The new KEK is stored before.
func (e *Engine) switchTenant(ctx context.Context, o keyring.Owner, now *keystore.KEKRecord, req Request, ready *keystore.PreparedKEK) (*keystore.KEKRecord, error) {
	under := now.Provider
	if req.Provider != nil {
		under = *req.Provider
	}
	next, err := e.keys.StoreOwnKEK(ctx, o, *now, under, ready)
	if err != nil {
		return nil, err
	}
	if next == nil {
		next = new(keystore.KEKRecord)
	}
	next.Rotation = e.from(now, req)
	return next, nil
}

// DriveTenant works on the move of a tenant's keys in the background, if one is unfinished,
// until it has ended.
func (e *Engine) DriveTenant(tenantID string) {
	e.jobs.Run(jobs.Job{
		ID: "kek/" + tenantID, FailureMessage: "moving a tenant's keys to another key-encryption key failed",
		Log: e.log.With("tenant_id", tenantID),
		Step: func(ctx context.Context) (done, progressed bool, err error) {
			err = e.stepTenant(ctx, tenantID)
			if errors.Is(err, tenant.ErrDamaged) {
				return true, false, nil // the schedule names it, and comes again
			}
			return err == nil, false, err
		},
	})
}

// stepTenant carries out the move of a tenant's keys: one pass, and then its end, under the
// tenant's exclusive lock throughout. So no key is made in between, and no other pass is
// needed. If the pass breaks off, all of it is repeated.
func (e *Engine) stepTenant(ctx context.Context, tenantID string) error {
	if err := e.pages.Acquire(ctx); err != nil {
		return err
	}
	defer e.pages.Release()
	return e.tenants.Hold(ctx, tenantID, func(h *tenant.Held) error {
		t := h.Record()
		if t == nil || !t.Moving() {
			return nil
		}
		did, err := e.rewrap(ctx, t, own, func(*keyring.KEK) error { return nil })
		if err != nil {
			return err
		}
		return e.endTenant(ctx, h, did)
	})
}

// endTenant ends the move of the keys of a tenant that is held. If every key has moved, the
// KEKs of its own that were left are destroyed first.
func (e *Engine) endTenant(ctx context.Context, h *tenant.Held, did Rewrapped) error {
	t := h.Record()
	left, err := e.destroyLeft(ctx, h, &did)
	if err != nil {
		return err
	}
	phase := keystore.KEKCompleted
	if len(did.Failures) > 0 {
		phase = keystore.KEKFailed
	}
	// Opened keys end with the lease of the KEK above them, which is another now.
	e.keys.Reopen(did.ids)
	e.items.ReopenKey(t.Incarnation)
	next, err := h.Update(ctx, func(next *tenant.Record) error {
		kek := next.OwnKEK()
		ended := *kek.Rotation
		ended.Phase, ended.EndedAt, ended.Tenants = phase, e.now(), 1
		ended.Keys, ended.Failed, ended.Failures = did.Keys, len(did.Failures), did.Failures[:min(len(did.Failures), maxFailures)]
		kek.Rotation = &ended
		next.KEK = &kek
		if err := e.logLeft(ctx, next, left); err != nil {
			return err
		}
		return e.askForRotation(next)
	})
	if err == nil {
		e.log.Info("moving a tenant's keys to another key-encryption key ended", "tenant_id", t.ID, "kek_id", next.KEKID(),
			"provider", next.KeyProvider(), "status", string(phase), "keys", did.Keys, "keys_failed", len(did.Failures))
	}
	return err
}

// destroyLeft destroys the KEKs of a tenant's own that its keys have left, if all of them
// have, and returns which. It is a failure of the move if they cannot be listed.
//
// Before, it puts the record that says so again, so that storage holds it: an older record,
// whose Put failed with effect behind Vault's cache, names a KEK that is about to go.
func (e *Engine) destroyLeft(ctx context.Context, h *tenant.Held, did *Rewrapped) (left []string, err error) {
	if len(did.Failures) > 0 {
		return nil, nil
	}
	if err := h.PutAsRead(ctx); err != nil {
		return nil, err
	}
	t := h.Record()
	if left, err = e.left(ctx, t); err == nil {
		err = e.keys.DestroyOwnKEKs(ctx, t.Incarnation, t.KEKID())
	}
	if storage.IsDamaged(err) {
		did.Failures = []keystore.KeyFailure{{TenantID: t.ID, Reason: "the tenant's key-encryption keys cannot be listed"}}
		return nil, nil
	}
	return left, err
}

// askForRotation makes a rotation of the tenant's key due once it has moved under a provider:
// its keys of before lie in older snapshots under the KEK that it has left. It does so after
// a move that has failed, too: the next one begins under the provider already.
func (e *Engine) askForRotation(next *tenant.Record) error {
	r := next.KEK.Rotation
	if next.KEK.Provider == "" || next.KEK.Provider == r.FromProvider {
		return nil
	}
	err := next.Ask(settings.Ask{
		At: r.EndedAt, By: r.InitiatedBy, Request: actor.RequestDigest(next.KEK.KEKID),
		Reason: fmt.Sprintf("the tenant's keys have moved under key provider %s", next.KEK.Provider),
	})
	if errors.Is(err, tenant.ErrUnchanged) {
		return nil // it has asked before
	}
	return err
}
