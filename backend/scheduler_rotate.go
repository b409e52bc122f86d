// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package backend

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/actor"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/rotation"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/tenant"
)

// rotateIfDue rotates the tenant of a hint if p says so, once there is a place
// in the budget. It waits for that no longer than waiting lives.
func (s *scheduler) rotateIfDue(ctx, waiting context.Context, p plan, a tenant.Appointment, did *tally) (again time.Time, err error) {
	t, err := s.b.tenants.Read(ctx, a.TenantID)
	if err != nil {
		return time.Time{}, s.dropIfStale(ctx, a.Hint, err)
	}
	asked := p.asked(t)
	if asked {
		did.asked.Add(1)
	}
	if what, _ := p.due(t); what == nothing {
		if asked || !t.Wants(a.Hint) {
			return time.Time{}, s.dropIfStale(ctx, a.Hint, nil)
		}
		return p.dueAt(t), nil
	}
	if err := s.budget.Acquire(waiting); err != nil {
		return time.Time{}, nil //nolint:nilerr // the round begins anew, or the engine stops
	}
	return time.Time{}, s.serveNow(ctx, a.TenantID, s.budget.Release, did)
}

// rotationEnded lets a round find out whether everyone who was to be rotated has been,
// if no other rotation is under way.
func (s *scheduler) rotationEnded() {
	s.mu.Lock()
	everyone := !s.planned.settings.RotateBefore.IsZero()
	s.mu.Unlock()
	if everyone && s.budget.Empty() {
		s.wake()
	}
}

// serveNow does what a tenant is due for, if it still is: waiting for the budget
// may have taken hours. It sees to it that release is called once that is over.
func (s *scheduler) serveNow(ctx context.Context, tenantID string, release func(), did *tally) error {
	p, err := s.plan(ctx)
	if err != nil {
		release()
		return err
	}
	t, err := s.b.tenants.Read(ctx, tenantID)
	if err != nil {
		release()
		return passOver(err)
	}
	what, reason := p.due(t)
	stillDue := func(t *tenant.Record) bool {
		now, _ := p.due(t)
		return now == what
	}
	switch what {
	case nothing:
		release()
		return nil
	case tryAgain:
		return s.tryAgain(ctx, t, stillDue, release, did)
	default:
		req := rotation.Request{
			Reason: reason, Repeats: what == rotateInTime,
			Unless: func(t *tenant.Record) bool { return !stillDue(t) },
		}
		if p.asked(t) {
			req.IdempotencyKey = fmt.Sprintf("%s%d", p.askedKey(), t.Keys.Next)
		}
		return s.start(ctx, t, req, release, did)
	}
}

// start starts a rotation of t as the schedule's, and calls release when it is
// not worked on any more. That somebody else was first is no error.
func (s *scheduler) start(ctx context.Context, t *tenant.Record, req rotation.Request, release func(), did *tally) error {
	req.Trigger = triggerScheduled
	// One for each due date: looked at twice, a tenant is rotated once.
	switch {
	case t.RotateRequest != "":
		req.IdempotencyKey = t.RotateRequest
	case req.IdempotencyKey == "":
		req.IdempotencyKey = fmt.Sprintf("schedule/%s/%d", t.Keys.Active().KeyID, t.Keys.Next)
	}
	req.InitiatedBy = actor.Actor{ID: "system", Name: "system"}
	req.Then = s.ended(release)
	r, started, err := s.b.rotations.Start(ctx, t.ID, req)
	if started {
		did.rotated.Add(1)
		s.b.Logger().Info("rotation started", "tenant_id", t.ID, "rotation_id", r.ID, "trigger", triggerScheduled)
	}
	return passOver(err)
}

// tryAgain lets t's latest rotation, which failed, go on.
func (s *scheduler) tryAgain(ctx context.Context, t *tenant.Record, stillDue func(*tenant.Record) bool, release func(), did *tally) error {
	r, err := s.b.rotations.RetryFailed(ctx, t.ID, stillDue, s.ended(release))
	if err == nil {
		did.repeated.Add(1)
		s.b.Logger().Info("rotation changed", "tenant_id", t.ID, "rotation_id", r.ID,
			"action", string(rotation.Retry), "trigger", triggerScheduled)
	}
	return passOver(err)
}

// ended calls release once a rotation is not worked on any more. Only the end of a
// rotation makes it worth to look again before the next tick: who could not be
// rotated cannot be a moment later, either.
func (s *scheduler) ended(release func()) func(started bool) {
	return func(started bool) {
		release()
		if started {
			s.rotationEnded()
		}
	}
}

// passOver makes nothing of an error that says that somebody else was first, or
// that the tenant's state does not allow it.
func passOver(err error) error {
	var running *rotation.RunningError
	var state *rotation.StateError
	if errors.As(err, &running) || errors.As(err, &state) || errors.Is(err, rotation.ErrUnwanted) ||
		errors.Is(err, tenant.ErrNotFound) || errors.Is(err, tenant.ErrDeleting) {
		return nil
	}
	return err
}
