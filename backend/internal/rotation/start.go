// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package rotation

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/actor"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/intents"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/itemstore"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/keyring"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/tenant"
)

// What callers tell apart.
var (
	ErrNotFound = errors.New("rotation not found")
	// ErrUnwanted reports a rotation that the request itself called off.
	ErrUnwanted = errors.New("the rotation is not wanted any more")
	// ErrPaused reports a rotation that waits until it is resumed.
	ErrPaused = errors.New("the rotation is paused")

	// errRecordChanged reports that the record no longer describes the rotation and phase
	// that a run carries out: it was cancelled, paused or has ended. Recover decides anew.
	errRecordChanged = errors.New("the rotation has changed")
)

// RunningError reports that a rotation of the tenant is unfinished.
type RunningError struct{ RotationID string }

// Detail names the rotation in an answer.
func (e *RunningError) Detail() (field, value string) { return "rotation_id", e.RotationID }

func (e *RunningError) Error() string {
	return fmt.Sprintf("rotation %s of this tenant is in progress", e.RotationID)
}

// KnownKeyError reports a key to be imported that the tenant has had before.
type KnownKeyError struct {
	Version    int
	RotationID string
}

// Detail names the rotation in an answer.
func (e *KnownKeyError) Detail() (field, value string) { return "rotation_id", e.RotationID }

func (e *KnownKeyError) Error() string {
	return fmt.Sprintf("this key was imported before, as version %d, by rotation %s: import another", e.Version, e.RotationID)
}

// Request asks for a rotation.
type Request struct {
	Reason  string
	KeyType keyring.KeyType // empty: as the active version's
	// IdempotencyKey tells a repeated request: it gets the rotation that the
	// first one started.
	IdempotencyKey string
	InitiatedBy    actor.Actor
	Trigger        string
	// Material, if set, is a key that the tenant's owner has made, and that the new
	// page key is derived from; else that is made here, at random. The caller clears it
	// after Start.
	Material []byte
	// ByInterval says that the tenant's interval asks for this and not a person: then
	// failures in a row go on being counted.
	ByInterval bool
	// Manual says that a caller has started this very rotation: the number of those is
	// limited (manual_rotations_per_hour).
	Manual bool
	// Wanted, if set, is asked under the tenant's lock. If it returns false, no rotation is
	// started, and Start fails with [ErrUnwanted].
	Wanted func(*tenant.Record) bool
	// Then, if set, is called when this request's work on the rotation is over: nothing was
	// started, the rotation has ended and waits for the evidence log at most, the job has
	// ended, or another job, of Vault's tick, works on the rotation.
	// started says whether this request has started it.
	Then func(started bool)

	fingerprint string // of Material: see recognize
	evidence    tenant.Attribution
}

// startTries is how often the Put that commits a rotation is tried. If each try
// fails, the rotation may still have started; recovery decides.
const startTries = 3

// Start starts a rotation of a tenant and drives it in the background; started
// says whether this request did. It fails with [tenant.ErrNotFound], a
// [RunningError], a [LimitError], [ErrNoRoom], or, for a key that is imported again, a
// [KnownKeyError]. A request with the idempotency key of an earlier one gets that
// rotation back.
func (e *Engine) Start(ctx context.Context, tenantID string, req Request) (r *tenant.Rotation, started bool, err error) {
	if req.Then == nil {
		req.Then = func(bool) {}
	}
	r, intent, err := e.start(ctx, tenantID, &req)
	if started = intent != nil && err == nil; started {
		e.counters.started.Add(1)
	}
	if intent == nil {
		req.Then(false)
		return r, false, err
	}
	// Even after an error: then this undoes what the start had begun.
	e.drive(*intent, func() { req.Then(started) })
	return r, started, err
}

// start returns the rotation and, if it is to be driven, its intent: with an error,
// too, once the intent is written.
func (e *Engine) start(ctx context.Context, tenantID string, req *Request) (r *tenant.Rotation, intent *intents.Intent, err error) {
	// Counting reads every page the first time, and the lock holds up writers:
	// so count, and refuse what can be refused, before it is taken.
	t, err := e.tenants.Active(ctx, tenantID)
	if err != nil {
		return nil, nil, err
	}
	if r, _, err := e.mayStart(ctx, t, req); r != nil || err != nil {
		return r, nil, err
	}
	if err := e.keys.MayWrap(ctx, t.Owner(), t.KEKID()); err != nil {
		return nil, nil, err // before anything is begun
	}
	scan, err := e.scanIfFull(ctx, t)
	if err != nil {
		return nil, nil, e.noteRefusal(tenantID, err)
	}
	if err := e.attribute(ctx, req); err != nil {
		return nil, nil, err
	}
	err = e.tenants.Hold(ctx, tenantID, func(h *tenant.Held) error {
		t, err := h.Active()
		if err != nil {
			return err
		}
		var usage itemstore.Usage
		if r, usage, err = e.mayStart(ctx, t, req); r != nil || err != nil {
			return err
		}
		r, intent, err = e.commit(ctx, h, req, usage, scan)
		return err
	})
	return r, intent, e.noteRefusal(tenantID, err)
}

// noteRefusal reports a tenant whose record is full, and returns the error.
func (e *Engine) noteRefusal(tenantID string, err error) error {
	if errors.Is(err, ErrNoRoom) {
		e.refused(tenantID, err.Error())
	}
	return err
}

// mayStart returns what there is to rotate. If the request is a repeated one, it
// returns the rotation that the first one started.
func (e *Engine) mayStart(ctx context.Context, t *tenant.Record, req *Request) (*tenant.Rotation, itemstore.Usage, error) {
	if err := e.recognize(ctx, t, req); err != nil {
		return nil, nil, err
	}
	if r, err := e.repeated(ctx, t, req); r != nil || err != nil {
		return r, nil, err
	}
	if t.Rotation != nil {
		return nil, nil, &RunningError{RotationID: t.Rotation.ID}
	}
	if err := mustBeNew(t, req.fingerprint); err != nil {
		return nil, nil, err
	}
	if err := e.mustBeWithinLimit(ctx, t, req); err != nil {
		return nil, nil, err
	}
	if req.Wanted != nil && !req.Wanted(t) {
		return nil, nil, ErrUnwanted
	}
	usage, err := e.items.Usage(ctx, t)
	return nil, usage, err
}

// commit makes the three writes of a start: the intent, the key, the record. In a full
// record it first destroys the keys of the versions that make room.
func (e *Engine) commit(ctx context.Context, h *tenant.Held, req *Request, usage itemstore.Usage, scan *itemstore.Scan) (*tenant.Rotation, *intents.Intent, error) {
	base := h.Record().Clone()
	room, err := e.makeRoom(ctx, base, scan)
	if err != nil {
		return nil, nil, err
	}
	next, intent, err := e.plan(ctx, base, req, usage)
	if err != nil {
		return nil, nil, err
	}
	next.Rotation.Room = room
	if err := e.logStart(ctx, next); err != nil {
		return nil, nil, err
	}
	if intent.ID, err = e.intents.Put(ctx, *intent); err != nil {
		return nil, nil, fmt.Errorf("writing the intent: %w", err)
	}
	next.Rotation.IntentID = intent.ID
	if err := e.writeKey(ctx, next, req.Material); err != nil {
		return nil, intent, err
	}
	for range startTries {
		if err = h.Put(ctx, next); err == nil {
			return next.Rotation, intent, nil
		}
	}
	return nil, intent, err
}

// plan returns the record that t becomes, and the intent. It reads the settings under
// the tenant's lock: the rotation serves the campaign that they name, and no later one.
func (e *Engine) plan(ctx context.Context, t *tenant.Record, req *Request, usage itemstore.Usage) (*tenant.Record, *intents.Intent, error) {
	settings, err := e.settings.Rotation(ctx)
	if err != nil {
		return nil, nil, err
	}
	rotationID, err := keyring.NewID("rot-")
	if err != nil {
		return nil, nil, err
	}
	keyID, err := keyring.NewID("dek-")
	if err != nil {
		return nil, nil, err
	}
	now := e.now()
	next := t.Clone()
	if req.Manual {
		next.TakeManual(0, now) // mayStart has refused what is over the limit
	}
	from := *next.Keys.Active()
	keyType := req.KeyType
	if keyType == "" {
		keyType = from.KeyType
	}
	to := next.Keys.Add(keyring.Version{
		KeyID: keyID, KeyType: keyType, CreatedAt: now,
		RotationID: rotationID, Request: actor.RequestDigest(req.IdempotencyKey), Fingerprint: req.fingerprint,
	})
	next.Keys.Activate(to, now)
	next.RotateAfter = time.Time{} // what is owed stays: it is served by the end
	if !req.ByInterval {
		next.FailedInARow = 0
	}
	next.Rotation = &tenant.Rotation{
		ID: rotationID, TenantID: t.ID, Campaign: settings.Campaign.Number,
		From: from.Number, To: to, FromKeyID: from.KeyID, ToKeyID: keyID,
		Phase: tenant.Sweeping, Reason: req.Reason, Trigger: req.Trigger,
		InitiatedBy: req.InitiatedBy.Bare(), Evidence: req.evidence, StartedAt: now, UpdatedAt: now,
		ToRotate: usage.Items(), PagesToRotate: usage.AllPages(), Lost: lostItems(t, usage),
	}
	return next, &intents.Intent{TenantID: t.ID, Incarnation: t.Incarnation, RotationID: rotationID, KeyID: keyID}, nil
}
