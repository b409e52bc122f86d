// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

// Package deletion deletes tenants by crypto-shredding: it destroys a tenant's keys, and
// with them everything that is encrypted under them anywhere, then deletes its entries.
//
// A tenant can be restored until its window has passed. Then one Put sets its record to
// shredding, the point of no return. The keys follow, the pages, the history, the counts
// of seals; the record says that they are gone, the evidence log has that, a tombstone is
// written, and the record is deleted last. Each step can be
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
	"slices"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/actor"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/itemstore"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/jobs"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/keystore"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/ledger"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/settings"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/tenant"
	"github.com/vault-plugin-dek/vault-plugin-dek/evidence"
)

// Bounds of the time in which a tenant can be restored.
const (
	DefaultWindow = 7 * 24 * time.Hour
	MaxWindow     = settings.MaxDeletionWindow
)

// Engine deletes tenants.
type Engine struct {
	settings *settings.Store
	keys     *keystore.Store
	tenants  *tenant.Store
	items    *itemstore.Store
	ledger   *ledger.Ledger
	now      func() time.Time

	jobs *jobs.Runner
	log  hclog.Logger

	mu        sync.Mutex
	shredding map[string]*shredding // what requests wait for, by incarnation; covered by mu
}

// Config has the packages, the clock and the logger that an Engine uses.
type Config struct {
	Settings *settings.Store
	Keys     *keystore.Store
	Tenants  *tenant.Store
	Items    *itemstore.Store
	Ledger   *ledger.Ledger
	Now      func() time.Time

	Jobs *jobs.Runner
	Log  hclog.Logger
}

// NewEngine returns an Engine.
func NewEngine(c Config) *Engine {
	return &Engine{
		settings: c.Settings, keys: c.Keys, tenants: c.Tenants, items: c.Items, ledger: c.Ledger,
		now: c.Now, jobs: c.Jobs, log: c.Log, shredding: map[string]*shredding{},
	}
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

// ErrRestored reports a tenant that was restored since its deletion was asked for.
var ErrRestored = errors.New("the tenant was restored since: it is not deleted")

// Wish is a request to delete a tenant.
type Wish struct {
	Window *time.Duration // nil: the default one
	By     actor.Actor
	// Request identifies the request ([actor.RequestDigest]): repeated, it deletes
	// nothing more.
	Request string
}

// Delete marks a tenant for deletion after a window, and returns its record. With a
// window of 0 it returns when the tenant's keys are gone. A tenant that is being deleted
// stays as it is, unless a window is named: then that counts from now. The record is nil
// if the request is a repeated one and the tenant that it has deleted is gone, whether or
// not its ID was used again. Delete fails with [tenant.ErrNotFound], [ErrRestored],
// [ErrKeysLeft], [ErrRecordDamaged] or a [WindowError].
func (e *Engine) Delete(ctx context.Context, tenantID string, w Wish) (t *tenant.Record, err error) {
	config, err := e.settings.Config(ctx)
	if err != nil {
		return nil, err
	}
	least, _ := config.MinDeletion(e.now())
	if w.Window != nil && *w.Window < least {
		return nil, &WindowError{least}
	}
	err = e.tenants.Hold(ctx, tenantID, func(h *tenant.Held) error {
		t, err = e.mark(ctx, h, w, max(DefaultWindow, least))
		return err
	})
	switch {
	case errors.Is(err, errShredding):
		if err := e.shredNow(ctx, t); err != nil {
			return nil, err
		}
		return nil, tenant.ErrNotFound
	case errors.Is(err, tenant.ErrDamaged):
		return nil, fmt.Errorf("%w: %w", ErrRecordDamaged, err)
	case err != nil || t == nil:
		return nil, err
	case Due(t, e.now()):
		return t, e.shredNow(ctx, t)
	}
	return t, nil
}

// errShredding reports a tenant whose keys are being destroyed.
var errShredding = errors.New("the tenant is being shredded")

// ErrRecordDamaged reports a tenant whose record cannot be read, and with it what its
// keys are called.
var ErrRecordDamaged = errors.New("the tenant cannot be deleted, because only its record tells which keys are its own")

// ErrKeysLeft reports a tenant whose keys are being destroyed, and are not all gone yet.
var ErrKeysLeft = errors.New("the tenant's keys are being destroyed, and some are left: ask again")

// mark schedules the deletion of a tenant that is held. It returns nil if the request has
// had the tenant deleted before.
func (e *Engine) mark(ctx context.Context, h *tenant.Held, w Wish, standard time.Duration) (*tenant.Record, error) {
	if t := h.Record(); t == nil || !slices.Contains(t.DeleteRequests, w.Request) {
		if gone, err := h.HadDeleted(ctx, w.Request); gone || err != nil {
			return nil, err
		}
	}
	t, err := h.Update(ctx, func(next *tenant.Record) error { return e.schedule(ctx, next, w, standard) })
	if errors.Is(err, errShredding) {
		t = h.Record()
	}
	return t, err
}

func (e *Engine) schedule(ctx context.Context, next *tenant.Record, w Wish, after time.Duration) error {
	requests, isNew := actor.NoteRequest(next.DeleteRequests, w.Request)
	switch {
	case next.State == tenant.Active && !isNew:
		return ErrRestored
	case next.State == tenant.Shredding && isNew:
		return errShredding
	case next.State != tenant.Active && (!isNew || w.Window == nil):
		return tenant.ErrUnchanged
	}
	if w.Window != nil {
		after = *w.Window
	}
	now := e.now()
	if next.State == tenant.Active {
		next.DeletedAt, next.DeletedBy = now, w.By.Bare()
	}
	next.State, next.DeleteRequests = tenant.Deleting, requests
	next.DeleteAfter = now.Add(after)
	h, err := e.ledger.Head(ctx, "")
	if err != nil {
		return err
	}
	return next.Carry(h, &evidence.TenantDeletionScheduled{DeleteAfter: next.DeleteAfter})
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
		next.StandStill(e.now().Sub(next.DeletedAt))
		next.DeleteAfter, next.DeletedAt, next.DeletedBy = time.Time{}, time.Time{}, actor.Actor{}
		h, err := e.ledger.Head(ctx, "")
		if err != nil {
			return err
		}
		return next.Carry(h, &evidence.TenantRestored{})
	})
	return t, restored, err
}

// Due reports whether t is to be shredded now.
func Due(t *tenant.Record, now time.Time) bool {
	return t.State == tenant.Shredding ||
		t.State == tenant.Deleting && !now.Before(t.DeleteAfter)
}
