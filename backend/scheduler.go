// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package backend

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/deletion"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/rotation"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/store"
)

const (
	triggerScheduled = "scheduled"
	// visitsInFlight is how many tenants the schedule looks at at once.
	visitsInFlight = 16
)

// scheduler does what is due: it rotates keys that are old enough, destroys
// retired ones, and shreds tenants. It has no timer of its own: Vault's tick
// wakes it, and it works in the background. Days without hints cost nothing, so
// a tick at which nothing is due is a matter of a few reads.
type scheduler struct {
	b      *backend
	budget *pool // rotations that the schedule has unfinished

	mu      sync.Mutex
	lastRun time.Time
}

func newScheduler(b *backend) *scheduler {
	s := &scheduler{b: b}
	s.budget = newPool(s.maxRotations)
	return s
}

func (s *scheduler) maxRotations() int {
	c, err := s.b.store.Config(context.Background())
	if err != nil {
		return 1
	}
	return c.MaxConcurrentRotations
}

// wake lets the scheduler look. Rotations wait for places in their budget, which
// must not hold the rest up: so there are two.
func (s *scheduler) wake() {
	if !s.b.WriteSafeReplicationState() {
		return
	}
	s.b.workers.begin("schedule/upkeep", func() { s.round("upkeep", s.upkeep) })
	s.b.workers.begin("schedule/rotations", func() { s.round("rotations", s.rotations) })
}

// ranAt is when the scheduler last looked for rotations.
func (s *scheduler) ranAt() time.Time {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.lastRun
}

// tally is what a round did.
type tally struct{ rotated, destroyed, shredded, failed, asked atomic.Int64 }

// round logs one line for a round in which something happened.
func (s *scheduler) round(name string, f func(context.Context, *tally) error) {
	var did tally
	began := s.b.now()
	err := f(s.b.workers.ctx, &did)
	if err != nil && s.b.workers.ctx.Err() == nil {
		s.b.Logger().Warn("the schedule met trouble, it goes on at the next tick", "round", name, "error", err)
	}
	if n := did.rotated.Load() + did.destroyed.Load() + did.shredded.Load() + did.failed.Load(); n > 0 {
		s.b.Logger().Info("schedule", "round", name, "rotations_started", did.rotated.Load(),
			"keys_destroyed", did.destroyed.Load(), "tenants_shredded", did.shredded.Load(),
			"failed", did.failed.Load(), "took", s.b.now().Sub(began).String())
	}
}

// upkeep destroys keys and tenants whose time has come.
func (s *scheduler) upkeep(ctx context.Context, did *tally) error {
	failed, err := s.b.store.FailedTenants(ctx)
	if err != nil {
		return err
	}
	for _, h := range failed {
		if err := s.dropIfStale(ctx, h, nil); err != nil {
			return err
		}
	}
	today := store.DayOf(s.b.now())
	return s.days(ctx, store.UpkeepOn, today, today, did, s.keepUp)
}

func (s *scheduler) keepUp(ctx context.Context, h store.Hint, did *tally) error {
	t, err := s.b.store.Tenant(ctx, h.TenantID)
	if err != nil {
		return s.dropIfStale(ctx, h, err)
	}
	if deletion.Due(t, s.b.now()) {
		if err := s.b.deletion.Shred(ctx, t.ID); err != nil {
			return err
		}
		did.shredded.Add(1)
		return nil
	}
	if retiredKeyDue(t, s.b.now()) {
		n, err := s.b.engine.DestroyRetired(ctx, t.ID)
		did.destroyed.Add(int64(n))
		return err
	}
	return s.dropIfStale(ctx, h, nil)
}

func retiredKeyDue(t *store.Tenant, now time.Time) bool {
	if t.State != store.TenantActive || t.Rotation != nil {
		return false
	}
	for _, v := range t.Keys.Versions {
		if !v.DestroyAfter.IsZero() && !now.Before(v.DestroyAfter) {
			return true
		}
	}
	return false
}

// rotations starts the rotations that are due, as many at a time as the budget
// allows.
func (s *scheduler) rotations(ctx context.Context, did *tally) error {
	plan, err := s.plan(ctx)
	if err != nil {
		return err
	}
	s.mu.Lock()
	s.lastRun = plan.now
	s.mu.Unlock()
	// One that began before everyone was to be rotated has no hint, and does not
	// count: so this is asked before the days are gone through.
	unfinished, err := s.b.unfinished(ctx)
	if err != nil {
		return err
	}
	visit := func(ctx context.Context, h store.Hint, did *tally) error { return s.rotateIfDue(ctx, plan, h, did) }
	today := store.DayOf(plan.now)
	if err := s.days(ctx, store.DueOn, plan.lastDue(today), today, did, visit); err != nil {
		return err
	}
	if err := s.days(ctx, store.RotatedOn, plan.lastRotated(), today, did, visit); err != nil {
		return err
	}
	if len(unfinished) > 0 {
		return nil
	}
	return s.endCampaign(ctx, plan, did)
}

// endCampaign forgets that everyone was to be rotated, once everyone has been:
// until then a tick looks at days to come, too.
func (s *scheduler) endCampaign(ctx context.Context, p plan, did *tally) error {
	if p.settings.RotateBefore.IsZero() || did.asked.Load() > 0 || did.failed.Load() > 0 {
		return nil
	}
	_, err := s.b.store.UpdateRotationSettings(ctx, func(now *store.RotationSettings) {
		if now.RotateBefore.Equal(p.settings.RotateBefore) {
			now.RotateBefore, now.RotateReason = time.Time{}, ""
		}
	})
	return err
}

func (s *scheduler) rotateIfDue(ctx context.Context, p plan, h store.Hint, did *tally) error {
	t, err := s.b.store.Tenant(ctx, h.TenantID)
	if err != nil {
		return s.dropIfStale(ctx, h, err)
	}
	if p.asked(t) {
		did.asked.Add(1)
	}
	reason, due := p.due(t)
	if !due {
		return s.dropIfStale(ctx, h, nil)
	}
	if err := s.budget.acquire(ctx); err != nil {
		return err
	}
	// Waiting for the budget may have taken hours: look again, under the lock.
	if p, err = s.plan(ctx); err != nil {
		s.budget.release()
		return err
	}
	notDue := func(t *store.Tenant) bool {
		_, due := p.due(t)
		return !due
	}
	r, intent, err := s.b.engine.Start(ctx, t.ID, rotation.Request{
		Reason: reason, Trigger: triggerScheduled,
		// One for each due date: looked at twice, a tenant is rotated once.
		IdempotencyKey: fmt.Sprintf("schedule/%s/%d", t.Keys.Active().KeyID, t.Keys.Next),
		InitiatedBy:    store.Initiator{ID: "system", Name: "system"},
		Unless:         notDue,
	})
	if intent != nil {
		s.b.workers.carryOutThen(*intent, s.budget.release)
	} else {
		s.budget.release()
	}
	var running *rotation.RunningError
	switch {
	case errors.As(err, &running), errors.Is(err, rotation.ErrUnwanted),
		errors.Is(err, store.ErrTenantNotFound), errors.Is(err, store.ErrTenantDeleting):
		return nil // somebody else was first
	case err != nil:
		return err
	}
	if intent != nil {
		did.rotated.Add(1)
		s.b.Logger().Info("rotation started", "tenant_id", t.ID, "rotation_id", r.ID, "trigger", triggerScheduled)
	}
	return nil
}
