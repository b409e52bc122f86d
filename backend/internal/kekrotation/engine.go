// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package kekrotation

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/actor"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/itemstore"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/jobs"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/keystore"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/ledger"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/provider"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/settings"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/storage"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/tenant"
)

// RunningError reports that a rotation of the KEK is unfinished: to the one named, empty if a
// tenant's keys move to the mount's.
type RunningError struct{ KEKID string }

// Detail names the KEK in an answer.
func (e *RunningError) Detail() (field, value string) { return "kek_id", e.KEKID }

func (e *RunningError) Error() string {
	to := e.KEKID
	if to == "" {
		to = "that of the mount"
	}
	return fmt.Sprintf("a rotation of the key-encryption key is in progress, to %s", to)
}

// Engine rotates the mount's KEK, and tenants' own.
type Engine struct {
	mount    *storage.Mount
	settings *settings.Store
	keys     *keystore.Store
	tenants  *tenant.Store
	items    *itemstore.Store
	ledger   *ledger.Ledger
	now      func() time.Time

	jobs  *jobs.Runner
	pages *jobs.Semaphore
	log   hclog.Logger

	mu   sync.Mutex
	live *Run // the unfinished rotation, if it is worked on here
}

// Config has the packages, the clock and the logger that an Engine uses.
type Config struct {
	Mount    *storage.Mount
	Settings *settings.Store
	Keys     *keystore.Store
	Tenants  *tenant.Store
	Items    *itemstore.Store
	Ledger   *ledger.Ledger
	Now      func() time.Time

	Jobs  *jobs.Runner
	Pages *jobs.Semaphore // shared with what rotations have in flight
	Log   hclog.Logger
}

// NewEngine returns an Engine.
func NewEngine(c Config) *Engine {
	return &Engine{
		mount: c.Mount, settings: c.Settings, keys: c.Keys, tenants: c.Tenants, items: c.Items, ledger: c.Ledger,
		now: c.Now, jobs: c.Jobs, pages: c.Pages, log: c.Log,
	}
}

// Request asks for a rotation of the KEK.
type Request struct {
	Reason string
	// IdempotencyKey tells a repeated request: it gets the rotation that the first
	// one started, as long as no other has begun since.
	IdempotencyKey string
	InitiatedBy    actor.Actor
	// Provider is the one that the new KEK is to be under, empty: none. Nil: the one that
	// the KEK is under now, or none.
	Provider *string
}

// Start starts a rotation and drives it in the background. It returns the record as
// it is then, and whether this request started it. It fails with [keystore.ErrNoKEK]
// a [RunningError], [keystore.ErrProvider] or an error of the provider. After any other error the rotation may still have started; the
// job that drives it decides that.
func (e *Engine) Start(ctx context.Context, req Request) (r *keystore.KEKRecord, started bool, err error) {
	defer e.Drive()
	return e.start(ctx, req)
}

func (e *Engine) start(ctx context.Context, req Request) (r *keystore.KEKRecord, started bool, err error) {
	r, err = e.keys.SwitchKEK(ctx, req.Provider, func(now *keystore.KEKRecord) (*keystore.KEKRotation, error) {
		if last := now.Rotation; last != nil && last.IdempotencyKey == req.IdempotencyKey {
			return nil, nil
		}
		if now.Rotation.Unfinished() {
			return nil, &RunningError{KEKID: now.KEKID}
		}
		started = true
		return e.from(now, req), nil
	})
	return r, started && err == nil, err
}

// from is a rotation from the current KEK that begins now.
func (e *Engine) from(now *keystore.KEKRecord, req Request) *keystore.KEKRotation {
	return &keystore.KEKRotation{
		From: now.KEKID, FromProvider: now.Provider, Phase: keystore.KEKRewrapping, IdempotencyKey: req.IdempotencyKey,
		Reason: req.Reason, InitiatedBy: req.InitiatedBy.Bare(), StartedAt: e.now(),
	}
}

// Recover returns the run of the unfinished rotation to go on with, nil if there is
// none and none is due. It waits for the callers that hold a tenant's lock.
func (e *Engine) Recover(ctx context.Context) (*Run, error) {
	r, err := e.keys.KEK(ctx)
	if errors.Is(err, keystore.ErrNoKEK) {
		return nil, nil
	}
	if err == nil && !r.Rotation.Unfinished() {
		r, err = e.startIfDue(ctx, r)
	}
	if err != nil {
		return nil, err
	}
	if !r.Rotation.Unfinished() {
		e.setLive(nil)
		return nil, nil
	}
	if run := e.running(r.KEKID); run != nil {
		return run, nil // it failed, and goes on where it was
	}
	noted, err := e.keys.KEKProgress(ctx, r.KEKID)
	if err != nil {
		return nil, err
	}
	// Before a KEK is destroyed, the record that says so is written again, so that storage
	// holds it.
	if err := e.keys.SettleKEK(ctx, r.KEKID); err != nil {
		return nil, err
	}
	// Everything wrapped from here on is wrapped under the current KEK, since the
	// record has been read; what was wrapped before must be there to be listed.
	e.tenants.AwaitLocks()
	run := &Run{e: e, kekID: r.KEKID, began: e.now(), shown: noted, noted: e.now()}
	e.setLive(run)
	return run, nil
}

func (e *Engine) setLive(r *Run) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.live = r
}

// running returns what is worked on here of the rotation to a KEK, or nil.
func (e *Engine) running(kekID string) *Run {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.live == nil || e.live.kekID != kekID {
		return nil
	}
	return e.live
}

// The status of a rotation of the KEK, as callers see it.
const (
	statusNone       = "not_rotated" // the first KEK is in use
	statusInProgress = "in_progress"
	statusCompleted  = "completed"
	statusFailed     = "failed"
)

var statusOf = map[keystore.KEKPhase]string{
	keystore.KEKRewrapping: statusInProgress,
	keystore.KEKCompleted:  statusCompleted,
	keystore.KEKFailed:     statusFailed,
}

// View describes the KEK and its latest rotation for callers.
type View struct {
	keystore.KEKRecord
	Status string
	// Older are the KEKs in storage beside the current one.
	Older    []string
	Progress keystore.KEKProgress
	Failures []keystore.KeyFailure
	// ProviderState is what the latest call to the KEK's provider came to, empty if it lies
	// in Vault's storage, LeaseUntil how long it may be used without another.
	ProviderState string
	LeaseUntil    time.Time
	// WaitingFor is the provider that an unfinished rotation waits for, empty: none.
	WaitingFor string
}

// View describes the KEK as it stands. It fails with [keystore.ErrNoKEK].
func (e *Engine) View(ctx context.Context) (View, error) {
	r, err := e.keys.KEK(ctx)
	if err != nil {
		return View{}, err
	}
	v := View{KEKRecord: *r, Status: statusNone, ProviderState: e.keys.ProviderState(r), LeaseUntil: e.keys.LeaseUntil(provider.Place{KEKID: r.KEKID})}
	stored, err := e.keys.StoredKEKs(ctx)
	if err != nil {
		return View{}, err
	}
	for _, id := range stored {
		if id != r.KEKID {
			v.Older = append(v.Older, id)
		}
	}
	if r.Rotation == nil {
		return v, nil
	}
	v.Status = statusOf[r.Rotation.Phase]
	if !r.Rotation.Unfinished() {
		v.Progress = keystore.KEKProgress{
			Tenants: r.Rotation.Tenants, Keys: r.Rotation.Keys, Failed: r.Rotation.Failed, Percent: 100, At: r.Rotation.EndedAt,
		}
		v.Failures = r.Rotation.Failures
		return v, nil
	}
	if err := e.viewUnfinished(ctx, &v); err != nil || !v.Progress.At.IsZero() {
		return v, err
	}
	// No worker has noted how far it is: it has just begun, or has ended since View read its record.
	now, err := e.keys.KEK(ctx)
	if err == nil && (now.KEKID != r.KEKID || !now.Rotation.Unfinished()) {
		return e.View(ctx)
	}
	v.Progress.At = r.Rotation.StartedAt
	return v, err
}

// viewUnfinished fills in what changes while a rotation runs: from memory where
// it runs, else from what was last noted.
func (e *Engine) viewUnfinished(ctx context.Context, v *View) (err error) {
	v.WaitingFor = e.keys.WaitingFor("")
	if run := e.running(v.KEKID); run != nil {
		v.Progress, v.Failures = run.progress(), run.failures()
		return nil
	}
	v.Progress, err = e.keys.KEKProgress(ctx, v.KEKID)
	return err
}
