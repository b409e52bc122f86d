// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package backend

import (
	"context"
	"hash/fnv"
	"strings"
	"time"

	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/settings"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/tenant"
)

// plan is what decides which tenants are due.
type plan struct {
	now      time.Time
	settings settings.Rotation
	jitter   time.Duration
}

func (s *scheduler) plan(ctx context.Context) (plan, error) {
	settings, err := s.b.settings.Rotation(ctx)
	if err != nil {
		return plan{}, err
	}
	c, err := s.b.settings.Config(ctx)
	return plan{s.b.now(), settings, c.SchedulerJitter}, err
}

// newPlan is the plan of a round. If it decides otherwise than that of the round
// before, everyone is to be looked at again.
func (s *scheduler) newPlan(ctx context.Context) (plan, error) {
	p, err := s.plan(ctx)
	if err != nil {
		return p, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.planned.settings != p.settings || s.planned.jitter != p.jitter {
		s.b.tenants.ForgetAppointments()
	}
	s.planned, s.lastRun = p, p.now
	return p, nil
}

// lastRotated is the latest day of rotation on which a tenant may be due.
func (p plan) lastRotated() string {
	last := p.now.Add(-settings.IntervalLength(p.settings.RotationInterval))
	if !p.settings.RotateBefore.IsZero() && p.settings.RotateBefore.After(last) {
		last = p.settings.RotateBefore
	}
	return tenant.DayOf(last)
}

// lastDue is the latest day under which a tenant may lie that is due: today, or,
// while everyone is to be rotated, any.
func (p plan) lastDue(today string) string {
	if p.settings.RotateBefore.IsZero() {
		return today
	}
	return tenant.DayOf(p.now.Add(settings.IntervalLength(settings.DefaultRotationInterval)))
}

// lastAsked is the latest day of an index under which a tenant may lie that is
// among everyone who is to be rotated; empty if nobody is.
func (p plan) lastAsked(i tenant.Index) string {
	switch {
	case p.settings.RotateBefore.IsZero():
		return ""
	case i == tenant.RotatedOn:
		return tenant.DayOf(p.settings.RotateBefore)
	}
	return p.lastDue("")
}

// duty is what a tenant is due for.
type duty int

const (
	nothing      duty = iota
	rotateInTime      // its interval has passed
	rotateAsked       // somebody has asked for it, or a cancelled one is made up for
	tryAgain          // its latest rotation failed, and is to go on
)

// due reports what is to be done with t's key now, and why.
func (p plan) due(t *tenant.Record) (what duty, reason string) {
	switch {
	case t.State != tenant.Active || t.Rotation != nil || t.RotationPaused:
		return nothing, ""
	case p.asked(t) && !p.putOff(t):
		return rotateAsked, p.settings.RotateReason
	case p.now.Before(p.dueAt(t)):
		return nothing, ""
	case t.FailedInARow > 0 && p.now.Before(t.Expires(p.settings)):
		return tryAgain, ""
	case !t.RotateAfter.IsZero() && t.FailedInARow == 0:
		return rotateAsked, t.RotateReason
	}
	return rotateInTime, ""
}

// dueAt is when t is due: a date that somebody set is not spread.
func (p plan) dueAt(t *tenant.Record) time.Time {
	if !t.RotateAfter.IsZero() {
		return t.RotateAfter
	}
	return t.Expires(p.settings).Add(p.spread(t))
}

// asked reports whether t is among everyone who is to be rotated.
func (p plan) asked(t *tenant.Record) bool {
	return t.State == tenant.Active && !t.RotationPaused && t.LastRotatedAt().Before(p.settings.RotateBefore) &&
		!strings.HasPrefix(t.Keys.Active().IdempotencyKey, p.askedKey())
}

// askedKey is how idempotency keys begin of rotations of everyone. A key that one of
// them has made is not too old, even if by a clock that was set back since it is.
func (p plan) askedKey() string { return "everyone/" + p.settings.RotateRequest + "/" }

// putOff reports whether t's rotation was cancelled since everyone was to be
// rotated, and so waits. A failure before that does not put it off: one try in
// the new key's name is what was asked for.
func (p plan) putOff(t *tenant.Record) bool {
	return p.now.Before(t.RotateAfter) && t.Last != nil && !t.Last.EndedAt.Before(p.settings.RotateBefore)
}

// spread is a tenant's share of the jitter: the same at each look, another after
// each rotation.
func (p plan) spread(t *tenant.Record) time.Duration {
	if p.jitter <= 0 {
		return 0
	}
	h := fnv.New64a()
	_, _ = h.Write([]byte(t.Keys.Active().KeyID))
	return time.Duration(h.Sum64() % uint64(p.jitter)) // #nosec G115 -- below jitter
}
