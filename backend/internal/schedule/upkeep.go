// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package schedule

import (
	"context"
	"errors"
	"fmt"

	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/deletion"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/dueindex"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/rotation"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/tenant"
)

// upkeep replaces keys over their usage limit, destroys keys and tenants whose time has
// come, and goes on with moves of tenants' keys to other KEKs.
func (e *Engine) upkeep(ctx context.Context, did *tally) error {
	e.rotateOverLimit(ctx, did)
	e.visitAll(ctx, e.index.UpkeepDue(e.now()), did, func(v dueindex.Visit) error { return e.maintain(ctx, v, did) })
	return ctx.Err()
}

// maintain resumes the move of a visited tenant's keys to another KEK, and destroys what of
// the tenant is due: all of it, or single keys.
func (e *Engine) maintain(ctx context.Context, v dueindex.Visit, did *tally) error {
	t, err := e.tenants.Read(ctx, v.TenantID)
	if errors.Is(err, tenant.ErrNotFound) {
		e.index.Settle(v, nil)
		return nil
	}
	if isDamaged(err) {
		e.blockDamaged(v.TenantID, err)
		return nil
	}
	if err != nil {
		return err
	}
	if t.Moving() {
		e.kek.DriveTenant(t.ID)
	}
	now := e.now()
	if deletion.Due(t, now) {
		err := e.deletion.Shred(ctx, t.ID)
		if isDamaged(err) {
			e.blockDamaged(v.TenantID, err)
			return nil
		}
		if err == nil {
			did.shredded.Add(1)
		}
		return err
	}
	if t.State != tenant.Active || !dueindex.DestructionDue(t, now) {
		e.index.Settle(v, t)
		return nil
	}
	if c, err := e.settings.Config(ctx); err != nil || c.Unreadable {
		return err // how long keys are to be kept is not known
	}
	err = e.destroyKeys(ctx, t, did)
	if isDamaged(err) {
		e.blockDamaged(v.TenantID, err)
		return nil
	}
	return err
}

// destroyKeys destroys the keys of a tenant whose time has come: page keys after their
// retention, and external keys that no holder needs.
func (e *Engine) destroyKeys(ctx context.Context, t *tenant.Record, did *tally) error {
	if dueindex.RetiredDue(t, e.now()) {
		n, err := e.destruction.DestroyRetired(ctx, t.ID)
		did.destroyed.Add(int64(n))
		if err != nil {
			return err
		}
	}
	n, err := e.holders.DestroyGone(ctx, t.ID)
	did.destroyed.Add(int64(n))
	return err
}

// rotateOverLimit rotates keys that have sealed nearly as much as their type allows.
// It waits neither for a date nor for a place in the budget, and neither
// rotation_paused nor a paused rotation holds it up: soon these keys would refuse to
// seal at all.
func (e *Engine) rotateOverLimit(ctx context.Context, did *tally) {
	for tenantID, keyID := range e.keys.OverLimit() {
		if err := e.rotateKeyOverLimit(ctx, tenantID, keyID, did); err != nil {
			did.trouble(err)
		}
	}
}

func (e *Engine) rotateKeyOverLimit(ctx context.Context, tenantID, keyID string, did *tally) error {
	t, err := e.tenants.Read(ctx, tenantID)
	if errors.Is(err, tenant.ErrNotFound) || err == nil && t.Keys.Active().KeyID != keyID {
		e.keys.ForgetOverLimit(tenantID, keyID)
		return nil
	}
	switch {
	case isDamaged(err):
		return nil // the rounds name it
	case err != nil:
		return err
	case t.State != tenant.Active:
		return nil // it seals nothing, unless it is restored
	case t.Rotation != nil:
		return e.resumeForLimit(ctx, t)
	}
	key := t.Keys.Active()
	err = e.start(ctx, t, rotation.Request{
		Reason: fmt.Sprintf("version %d nears the %d messages that a key of type %s may seal", key.Number, e.keys.SealLimit(), key.KeyType),
		Wanted: func(t *tenant.Record) bool { return t.Keys.Active().KeyID == keyID },
	}, func() {}, did)
	return e.ignoreConflict(dueindex.Visit{TenantID: tenantID}, err)
}

// resumeForLimit resumes the rotation that has to end before a used-up key can be
// replaced, should it be paused.
func (e *Engine) resumeForLimit(ctx context.Context, t *tenant.Record) error {
	if !t.Rotation.Paused {
		return nil
	}
	r, err := e.rotations.Do(ctx, t.ID, t.Rotation.ID, rotation.Resume)
	var state *rotation.StateError
	if errors.As(err, &state) || errors.Is(err, tenant.ErrNotFound) || errors.Is(err, tenant.ErrDeleting) {
		return nil // it has ended meanwhile, or the tenant has
	}
	if err != nil {
		return err
	}
	e.log.Warn("a paused rotation is resumed, since the key in use is nearly used up", "tenant_id", t.ID, "rotation_id", r.ID)
	return nil
}
