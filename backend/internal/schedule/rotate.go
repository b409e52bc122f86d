// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package schedule

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"

	"golang.org/x/sync/errgroup"

	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/actor"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/dueindex"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/keystore"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/rotation"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/tenant"
)

const (
	triggerScheduled = "scheduled"
	triggerRequested = "requested" // by a request for many
)

// visitsInFlight bounds the tenants that a round visits at once: enough rotations starting
// together to keep storage busy.
const visitsInFlight = 64

// rotate starts the rotations that are due, as many at a time as the budget allows.
// If a caller asks for others meanwhile, it looks at everything anew.
func (e *Engine) rotate(ctx context.Context, did *tally) error {
	for {
		admit, restartRound := context.WithCancel(ctx)
		e.mu.Lock()
		e.restartRound = restartRound
		e.mu.Unlock()
		err := e.rotateDue(ctx, admit, did)
		startsOver := admit.Err() != nil
		restartRound()
		if !startsOver || ctx.Err() != nil {
			return err
		}
	}
}

// rotateDue is one pass over the tenants that are due. It works until ctx ends; once admit
// has ended it begins no further rotation, so that the round can start over.
func (e *Engine) rotateDue(ctx, admit context.Context, did *tally) error {
	p, err := e.plan(ctx)
	if err != nil {
		return err
	}
	e.index.SetPlan(p)
	e.mu.Lock()
	e.lastRun = p.Now
	e.mu.Unlock()
	due := e.index.Due(p.Now)
	// The tenants that a caller has asked for by name come first. Then come those that a
	// campaign makes due, whose DueAt is 0, and then the most overdue.
	slices.SortFunc(due, func(a, b dueindex.Visit) int {
		if a.Asked != b.Asked {
			if a.Asked {
				return -1
			}
			return 1
		}
		return cmp.Compare(a.DueAt, b.DueAt)
	})
	// They are two passes, because a pass visits tenants concurrently: in one, a tenant that
	// was not asked for might take a place in the budget before one that was.
	asked := slices.IndexFunc(due, func(v dueindex.Visit) bool { return !v.Asked })
	if asked < 0 {
		asked = len(due)
	}
	for _, some := range [][]dueindex.Visit{due[:asked], due[asked:]} {
		e.visitAll(admit, some, did, func(v dueindex.Visit) error { return e.rotateIfDue(ctx, admit, p, v, did) })
	}
	return ctx.Err()
}

// visitAll visits tenants, many at once, until ctx ends. One that causes an error
// is due again at the next tick, and keeps no other admit.
func (e *Engine) visitAll(ctx context.Context, due []dueindex.Visit, did *tally, f func(dueindex.Visit) error) {
	var g errgroup.Group
	g.SetLimit(visitsInFlight)
	for _, v := range due {
		if ctx.Err() != nil {
			break
		}
		g.Go(func() error {
			err := f(v)
			if waited, _ := e.keys.Await(ctx, err); waited {
				err = f(v) // its KEK's provider was asked meanwhile
			}
			var locked *keystore.LockedError
			if errors.As(err, &locked) {
				e.index.Block(v, "it waits for key provider "+locked.Provider)
				return nil
			}
			if err != nil && ctx.Err() == nil {
				did.trouble(fmt.Errorf("tenant %s: %w", v.TenantID, err))
			}
			return nil
		})
	}
	_ = g.Wait() // errors are in the tally
}

// rotateIfDue rotates a visited tenant if p says so, once there is a place in the
// budget. It stops admit for one when admit ends.
func (e *Engine) rotateIfDue(ctx, admit context.Context, p dueindex.Plan, v dueindex.Visit, did *tally) error {
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
	if p.Due(t) == dueindex.NotDue {
		e.index.Settle(v, t)
		return nil
	}
	if err := e.budget.Acquire(admit); err != nil {
		return nil //nolint:nilerr // the round begins anew, or the engine stops
	}
	return e.rotateNow(ctx, v, e.budget.Release, did)
}

// rotateNow rotates a tenant if it is still due: waiting for the budget may have taken
// hours. It makes sure that release is called once that is over.
func (e *Engine) rotateNow(ctx context.Context, v dueindex.Visit, release func(), did *tally) error {
	p, err := e.plan(ctx)
	if err != nil {
		release()
		return err
	}
	t, err := e.tenants.Read(ctx, v.TenantID)
	if err != nil {
		release()
		return e.ignoreConflict(v, err)
	}
	what := p.Due(t)
	stillDue := func(t *tenant.Record) bool { return p.Due(t) == what }
	switch what {
	case dueindex.NotDue:
		release()
		return nil
	case dueindex.ByRetry:
		err := e.retry(ctx, t, stillDue, release, did)
		if errors.Is(err, rotation.ErrTargetUnusable) { // release was called
			return e.rotateAnew(ctx, v, p, t, stillDue, did)
		}
		return e.ignoreConflict(v, err)
	default:
		req := request(p, t, what)
		req.Wanted = stillDue
		return e.ignoreConflict(v, e.start(ctx, t, req, release, did))
	}
}

// rotateAnew starts a rotation in place of a failed one that would fail again.
func (e *Engine) rotateAnew(ctx context.Context, v dueindex.Visit, p dueindex.Plan, t *tenant.Record, stillDue func(*tenant.Record) bool, did *tally) error {
	if err := e.budget.Acquire(ctx); err != nil {
		return nil //nolint:nilerr // the engine stops
	}
	req := request(p, t, dueindex.ByKeyAge)
	req.Wanted = stillDue
	return e.ignoreConflict(v, e.start(ctx, t, req, e.budget.Release, did))
}

// request is what the schedule asks for of t, on behalf of whoever asked for it.
func request(p dueindex.Plan, t *tenant.Record, what dueindex.DueKind) rotation.Request {
	if what != dueindex.Requested {
		return rotation.Request{ByInterval: true}
	}
	if t.Owes(p.Settings).Request {
		return rotation.Request{Trigger: triggerRequested, Reason: t.Request.Reason, InitiatedBy: t.Request.By.Bare()}
	}
	c := p.Settings.Campaign
	return rotation.Request{Trigger: triggerRequested, Reason: c.Reason, InitiatedBy: c.By.Bare()}
}

// start starts a rotation of t as the schedule's, and calls release when it has ended or is
// not worked on any more.
func (e *Engine) start(ctx context.Context, t *tenant.Record, req rotation.Request, release func(), did *tally) error {
	if req.Trigger == "" {
		req.Trigger = triggerScheduled
	}
	if req.InitiatedBy == (actor.Actor{}) { // as of a request that an older version stored
		req.InitiatedBy = actor.System
	}
	// One for each due date: looked at twice, a tenant is rotated once.
	req.IdempotencyKey = fmt.Sprintf("schedule/%s/%d", t.Keys.Active().KeyID, t.Keys.Next)
	req.Then = func(bool) { release() }
	r, started, err := e.rotations.Start(ctx, t.ID, req)
	if started {
		did.rotated.Add(1)
		e.log.Info("rotation started", "tenant_id", t.ID, "rotation_id", r.ID, "trigger", req.Trigger)
	}
	return err
}

// retry lets t's latest rotation, which failed, go on.
func (e *Engine) retry(ctx context.Context, t *tenant.Record, stillDue func(*tenant.Record) bool, release func(), did *tally) error {
	r, err := e.rotations.RetryFailed(ctx, t.ID, stillDue, func(bool) { release() })
	if err == nil {
		did.retried.Add(1)
		e.log.Info("rotation changed", "tenant_id", t.ID, "rotation_id", r.ID,
			"action", string(rotation.Retry), "trigger", triggerScheduled)
	}
	return err
}

// ignoreConflict drops an error that says that another caller was first. One that says that
// the tenant cannot be rotated as it is blocks the tenant in the index. [rotation.ErrNoRoom]
// is returned as well, since an operator has to do something about it.
func (e *Engine) ignoreConflict(v dueindex.Visit, err error) error {
	var running *rotation.RunningError
	var state *rotation.StateError
	switch {
	case err == nil:
		return nil
	case errors.As(err, &running), errors.Is(err, rotation.ErrUnwanted),
		errors.Is(err, tenant.ErrNotFound), errors.Is(err, tenant.ErrDeleting):
		return nil
	case errors.As(err, &state):
		e.index.Block(v, state.Error())
		return nil
	case errors.Is(err, rotation.ErrNoRoom):
		e.index.Block(v, err.Error())
	case isDamaged(err):
		e.blockDamaged(v.TenantID, err)
		return nil
	}
	return err
}
