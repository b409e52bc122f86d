// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package kekrotation

import (
	"context"
	"errors"
	"slices"

	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/keystore"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/tenant"
	"github.com/vault-plugin-dek/vault-plugin-dek/evidence"
)

// The record of a tenant carries the events of its own KEKs; those of the mount's are in
// keystore.

// manual is the trigger of a move: the schedule starts none.
const manual = "manual"

// logMove adds to a record the event of the switch to the KEK that it names. Where the
// mount's wraps the tenant's keys, the event names that.
func (e *Engine) logMove(ctx context.Context, next *tenant.Record, from *keystore.KEKRecord) error {
	mounts, err := e.mountsKEK(ctx, next)
	if err != nil {
		return err
	}
	named := func(r *keystore.KEKRecord) *keystore.KEKRecord {
		if r.KEKID == "" {
			return mounts
		}
		return r
	}
	h, err := e.ledger.Head(ctx, next.KEK.Rotation.Reason)
	if err != nil {
		return err
	}
	h.Trigger = manual
	before, after := named(from), named(next.KEK)
	return next.Carry(h, &evidence.KEKRotated{
		PreviousKeyID: before.KEKID, NewKeyID: after.KEKID, PreviousProvider: before.Provider, NewProvider: after.Provider,
	})
}

// mountsKEK returns the mount's KEK. A mount whose tenants were all created under providers
// has none: it is made when the first of them leaves its own, and an empty one stands for it
// until then.
func (e *Engine) mountsKEK(ctx context.Context, next *tenant.Record) (*keystore.KEKRecord, error) {
	mounts, err := e.keys.KEK(ctx)
	if !errors.Is(err, keystore.ErrNoKEK) {
		return mounts, err
	}
	if next.KEKID() != "" {
		return new(keystore.KEKRecord), nil
	}
	_, release, err := e.keys.CurrentKEK(ctx, next.Owner(), "")
	if err != nil {
		return nil, err
	}
	release()
	return e.keys.KEK(ctx)
}

// left returns the KEKs of a tenant's own that its keys have left: those that are still
// there, and the one that the move began with, which an earlier try may have destroyed.
func (e *Engine) left(ctx context.Context, t *tenant.Record) ([]string, error) {
	ids, err := e.keys.OwnKEKs(ctx, t.Incarnation)
	if err != nil {
		return nil, err
	}
	if from := t.KEK.Rotation.From; from != "" && !slices.Contains(ids, from) {
		ids = append(ids, from)
	}
	return slices.DeleteFunc(ids, func(id string) bool { return id == t.KEKID() }), nil
}

// logLeft adds to a record that KEKs of the tenant's own were destroyed.
func (e *Engine) logLeft(ctx context.Context, next *tenant.Record, ids []string) error {
	if len(ids) == 0 {
		return nil
	}
	who, err := e.ledger.Actor(ctx, next.KEK.Rotation.InitiatedBy.Bare())
	if err != nil {
		return err
	}
	h := evidence.Head{Time: e.now(), Actor: who, Trigger: manual}
	for _, id := range ids {
		if err := next.Carry(h, &evidence.KeyDestroyed{KeyID: id, Which: evidence.WhichKEK, Why: evidence.WhyRotation}); err != nil {
			return err
		}
	}
	return nil
}
