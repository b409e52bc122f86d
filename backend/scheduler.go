// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package backend

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/jobs"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/settings"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/tenant"
)

const triggerScheduled = "scheduled"

// scheduler does what is due: it rotates keys that are old enough, destroys
// retired ones, and shreds tenants. It has no timer of its own: Vault's tick
// wakes it, and it works in the background. Days without hints cost nothing, and
// of the others the store remembers when to look at whom: so a tick at which
// nothing is due is a matter of a few reads.
type scheduler struct {
	b      *backend
	budget *jobs.Semaphore // rotations that the schedule has unfinished

	mu       sync.Mutex
	lastRun  time.Time
	planned  plan   // the latest
	overtake func() // lets the round of rotations that is under way begin anew
}

func newScheduler(b *backend) *scheduler {
	s := &scheduler{b: b, overtake: func() {}}
	s.budget = jobs.NewSemaphore(s.maxRotations)
	return s
}

func (s *scheduler) maxRotations() int {
	c, err := s.b.settings.Config(context.Background())
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
	s.b.jobs.Once("schedule/upkeep", func(context.Context) { s.round("upkeep", s.upkeep) }, nil)
	s.b.jobs.Once("schedule/rotations", func(context.Context) { s.round("rotations", s.rotations) }, nil)
}

// wakeNow is wake for somebody who has asked for rotations: a round that is under
// way does not first serve everyone else, which may take it hours.
func (s *scheduler) wakeNow() {
	s.mu.Lock()
	s.overtake()
	s.mu.Unlock()
	s.wake()
}

// ranAt is when the scheduler last looked for rotations.
func (s *scheduler) ranAt() time.Time {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.lastRun
}

// tally is what a round did.
type tally struct {
	rotated, repeated, destroyed, shredded, failed, asked atomic.Int64

	mu  sync.Mutex
	err error // the first that a tenant met with
}

func (t *tally) trouble(err error) {
	t.failed.Add(1)
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.err == nil {
		t.err = err
	}
}

// round logs one line for a round in which something happened.
func (s *scheduler) round(name string, f func(context.Context, *tally) error) {
	var did tally
	began := s.b.now()
	err := f(s.b.jobs.Context(), &did)
	if s.b.jobs.Context().Err() == nil {
		if jobs.ReadOnly(err) || jobs.ReadOnly(did.err) {
			s.b.jobs.NoteReadOnly(errors.Join(err, did.err))
			return
		}
		if err != nil {
			s.b.Logger().Warn("the schedule met trouble, it goes on at the next tick", "round", name, "error", err)
		}
		if did.err != nil {
			s.b.Logger().Warn("the schedule could not serve every tenant", "round", name, "tenants", did.failed.Load(), "error", did.err)
		}
	}
	if did.rotated.Load()+did.repeated.Load()+did.destroyed.Load()+did.shredded.Load()+did.failed.Load() > 0 {
		s.b.Logger().Info("schedule", "round", name, "rotations_started", did.rotated.Load(),
			"rotations_repeated", did.repeated.Load(), "keys_destroyed", did.destroyed.Load(),
			"tenants_shredded", did.shredded.Load(), "failed", did.failed.Load(), "took", s.b.now().Sub(began).String())
	}
}

// rotations starts the rotations that are due, as many at a time as the budget
// allows. If somebody asks for others meanwhile, it looks at everything anew.
func (s *scheduler) rotations(ctx context.Context, did *tally) error {
	for {
		waiting, overtake := context.WithCancel(ctx)
		s.mu.Lock()
		s.overtake = overtake
		s.mu.Unlock()
		err := s.serve(ctx, waiting, did)
		overtaken := waiting.Err() != nil
		overtake()
		if !overtaken || ctx.Err() != nil {
			return err
		}
	}
}

// serve is one round of rotations. When waiting ends it begins no more.
func (s *scheduler) serve(ctx, waiting context.Context, did *tally) error {
	p, err := s.newPlan(ctx)
	if err != nil {
		return err
	}
	// One that began before everyone was to be rotated has no hint, and does not
	// count: so this is asked before the days are gone through.
	unfinished, err := s.b.unfinished(ctx)
	if err != nil {
		return err
	}
	did.asked.Store(0) // of a round that was overtaken
	w := dayWalk{tenants: s.b.tenants, waiting: waiting, now: p.now, did: did}
	w.visit = func(ctx context.Context, a tenant.Appointment, did *tally) (time.Time, error) {
		return s.rotateIfDue(ctx, waiting, p, a, did)
	}
	today := tenant.DayOf(p.now)
	// Whoever was asked for just now comes first.
	for _, day := range []string{today, tenant.DayOf(p.now.AddDate(0, 0, -1))} {
		if err := w.day(ctx, tenant.DueOn, day); err != nil {
			return err
		}
	}
	if err := w.days(ctx, tenant.DueOn, p.lastDue(today)); err != nil {
		return err
	}
	if err := w.days(ctx, tenant.RotatedOn, p.lastRotated()); err != nil {
		return err
	}
	if waiting.Err() == nil && len(unfinished) == 0 {
		return s.endCampaign(ctx, p, did)
	}
	return ctx.Err()
}

// endCampaign forgets that everyone was to be rotated, once everyone has been:
// until then a tick looks at days to come, too.
func (s *scheduler) endCampaign(ctx context.Context, p plan, did *tally) error {
	if p.settings.RotateBefore.IsZero() || did.asked.Load() > 0 || did.failed.Load() > 0 {
		return nil
	}
	_, err := s.b.settings.UpdateRotation(ctx, func(now *settings.Rotation) {
		if now.RotateBefore.Equal(p.settings.RotateBefore) {
			now.RotateBefore, now.RotateReason = time.Time{}, ""
		}
	})
	return err
}
