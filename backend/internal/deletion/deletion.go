// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

// Package deletion deletes tenants by crypto-shredding: it destroys a tenant's keys, and
// with them everything that is encrypted under them anywhere, then deletes its entries.
//
// A tenant can be restored until its window has passed. Then one Put sets its record to
// shredding, the point of no return. The keys follow, the pages, the history, the counts
// of seals; a tombstone is written, and the record is deleted last. Each step can be
// repeated. Until the record is deleted it says shredding, so the schedule brings the
// work back after a crash.
//
// The package has no storage prefix of its own. It changes the record under the tenant's
// exclusive lock and deletes keys and pages without one: no request finds a tenant that
// is being shredded. It must never destroy a key of a tenant whose record says anything
// but shredding.
package deletion

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/actor"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/itemstore"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/jobs"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/keystore"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/settings"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/tenant"
)

// Bounds of the time in which a tenant can be restored.
const (
	DefaultWindow = 7 * 24 * time.Hour
	MaxWindow     = settings.MaxDeletionWindow
)

// shredWithin bounds how long a delete without a window waits for the end. Shredding a
// tenant of a million items takes longer, and goes on in the background.
const shredWithin = 10 * time.Second

// Engine deletes tenants.
type Engine struct {
	settings *settings.Store
	keys     *keystore.Store
	tenants  *tenant.Store
	items    *itemstore.Store
	now      func() time.Time

	jobs *jobs.Runner
	log  hclog.Logger
}

// Config has the packages, the clock and the logger that an Engine uses.
type Config struct {
	Settings *settings.Store
	Keys     *keystore.Store
	Tenants  *tenant.Store
	Items    *itemstore.Store
	Now      func() time.Time

	Jobs *jobs.Runner
	Log  hclog.Logger
}

// NewEngine returns an Engine.
func NewEngine(c Config) *Engine {
	return &Engine{settings: c.Settings, keys: c.Keys, tenants: c.Tenants, items: c.Items, now: c.Now, jobs: c.Jobs, log: c.Log}
}

// WindowError reports a deletion window below the mount's minimum.
type WindowError struct{ Least time.Duration }

// ErrWindow is what every [WindowError] is.
var ErrWindow = errors.New("the deletion window is too short")

// Unwrap returns [ErrWindow].
func (e *WindowError) Unwrap() error { return ErrWindow }

func (e *WindowError) Error() string {
	return fmt.Sprintf("deletion_window must be at least %s: that is min_deletion_window", e.Least)
}

// Delete marks a tenant for deletion after a window, nil for the default one, and
// returns its record. With a window of 0 the tenant is shredded in the background, and
// Delete waits up to ten seconds for the end. A tenant that is being deleted stays as it
// is, unless a window is named: then that counts from now. It fails with
// [tenant.ErrNotFound] or a [WindowError].
func (e *Engine) Delete(ctx context.Context, tenantID string, window *time.Duration, by actor.Actor) (*tenant.Record, error) {
	config, err := e.settings.Config(ctx)
	if err != nil {
		return nil, err
	}
	least, _ := config.MinDeletion(e.now())
	if window != nil && *window < least {
		return nil, &WindowError{least}
	}
	t, err := e.tenants.Update(ctx, tenantID, func(next *tenant.Record) error {
		return e.schedule(next, window, max(DefaultWindow, least), by)
	})
	if errors.Is(err, errShredding) {
		if err := e.shredNow(ctx, tenantID); err != nil {
			return nil, err
		}
		return nil, tenant.ErrNotFound
	}
	if errors.Is(err, tenant.ErrDamaged) {
		return nil, fmt.Errorf("%w: %w", ErrRecordDamaged, err)
	}
	if err == nil && Due(t, e.now()) {
		err = e.shredNow(ctx, tenantID)
	}
	return t, err
}

// errShredding reports a tenant whose keys are being destroyed.
var errShredding = errors.New("the tenant is being shredded")

// ErrRecordDamaged reports a tenant whose record cannot be read, and with it what its
// keys are called.
var ErrRecordDamaged = errors.New("the tenant cannot be deleted, because only its record tells which keys are its own")

// ErrKeysLeft reports a tenant whose keys are being destroyed, and are not all gone yet.
var ErrKeysLeft = errors.New("the tenant's keys are being destroyed, and some are left: ask again")

func (e *Engine) schedule(next *tenant.Record, window *time.Duration, after time.Duration, by actor.Actor) error {
	if next.State == tenant.Shredding {
		return errShredding
	}
	if next.State == tenant.Deleting && window == nil {
		return tenant.ErrUnchanged
	}
	if window != nil {
		after = *window
	}
	now := e.now()
	if next.State == tenant.Active {
		next.DeletedAt, next.DeletedBy = now, by
	}
	next.State = tenant.Deleting
	next.DeleteAfter = now.Add(after)
	return nil
}

// shredNow shreds a tenant in the background and waits up to shredWithin for the end.
// Without an error the keys are gone. If it fails, the schedule repeats it.
func (e *Engine) shredNow(ctx context.Context, tenantID string) error {
	done := make(chan struct{})
	var keysGone atomic.Bool
	var failed error
	begun := e.jobs.Once("shred/"+tenantID, func(ctx context.Context) {
		if failed = e.shred(ctx, tenantID, func() { keysGone.Store(true) }); failed != nil {
			e.log.Warn("shredding met trouble, the schedule goes on with it", "tenant_id", tenantID, "error", failed)
		}
	}, func() { close(done) })
	if !begun {
		return ErrKeysLeft // another request is at it
	}
	timer := time.NewTimer(shredWithin)
	defer timer.Stop()
	select {
	case <-done:
		if !keysGone.Load() {
			return failed
		}
	case <-timer.C:
	case <-ctx.Done():
	}
	if !keysGone.Load() {
		return ErrKeysLeft
	}
	return nil
}

// Restore brings a tenant back as it was. An active one stays as it is. It fails
// with [tenant.ErrNotFound], also once the window has passed and the keys are being
// destroyed.
func (e *Engine) Restore(ctx context.Context, tenantID string) (t *tenant.Record, restored bool, err error) {
	t, err = e.tenants.Update(ctx, tenantID, func(next *tenant.Record) error {
		switch next.State {
		case tenant.Active:
			return tenant.ErrUnchanged
		case tenant.Shredding:
			return tenant.ErrNotFound
		}
		restored = true
		next.State = tenant.Active
		next.DeleteAfter, next.DeletedAt, next.DeletedBy = time.Time{}, time.Time{}, actor.Actor{}
		return nil
	})
	return t, restored, err
}

// Due reports whether t is to be shredded now.
func Due(t *tenant.Record, now time.Time) bool {
	return t.State == tenant.Shredding ||
		t.State == tenant.Deleting && !now.Before(t.DeleteAfter)
}
