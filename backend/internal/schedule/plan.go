// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package schedule

import (
	"context"
	"strings"
	"time"

	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/settings"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/tenant"
)

// plan decides which tenants are due.
type plan struct {
	now      time.Time
	settings settings.Rotation
	jitter   time.Duration
}

func (e *Engine) plan(ctx context.Context) (plan, error) {
	rotation, err := e.settings.Rotation(ctx)
	if err != nil {
		return plan{}, err
	}
	c, err := e.settings.Config(ctx)
	return plan{e.now(), rotation, c.SchedulerJitter}, err
}

// decidesAs reports whether two plans differ by their time alone.
func (p plan) decidesAs(q plan) bool { return p.settings == q.settings && p.jitter == q.jitter }

// dueKind says why a tenant is due.
type dueKind int

const (
	notDue    dueKind = iota
	byAge             // its interval has passed
	requested         // a caller has asked for it, or it makes up for a cancelled one
	byRetry           // its latest rotation failed, and is to go on
)

// due reports what is to be done with t's key now.
func (p plan) due(t *tenant.Record) dueKind {
	switch {
	case t.State != tenant.Active || t.Rotation != nil:
		return notDue
	case p.asked(t) && !p.deferred(t):
		return requested
	case t.RotationPaused && !t.RotatePaused || p.now.Before(p.dueAt(t)):
		return notDue
	case t.FailedInARow > 0 && p.now.Before(t.Expires(p.settings)):
		return byRetry
	case !t.RotateAfter.IsZero() && t.FailedInARow == 0:
		return requested
	}
	return byAge
}

// dueAt returns when t is due. A date that a caller set is not spread by jitter.
func (p plan) dueAt(t *tenant.Record) time.Time {
	if !t.RotateAfter.IsZero() {
		return t.RotateAfter
	}
	jitter := p.jitterOf(settings.IntervalLength(t.RotationInterval))
	return t.Expires(p.settings).Add(share(jitter, hash32(t.Keys.Active().KeyID)))
}

// jitterOf returns the time over which rotations of tenants with an interval of their
// own are spread: at most a tenth of it. 0 is the organization's.
func (p plan) jitterOf(interval time.Duration) time.Duration {
	if interval == 0 {
		return p.jitter
	}
	return min(p.jitter, interval/10)
}

// asked reports whether t is among all tenants that are to be rotated.
func (p plan) asked(t *tenant.Record) bool {
	return t.State == tenant.Active && (!t.RotationPaused || p.settings.RotatePaused) && t.LastRotatedAt().Before(p.settings.RotateBefore) &&
		!strings.HasPrefix(t.Keys.Active().IdempotencyKey, p.campaignKey())
}

// campaignKey begins the idempotency keys of rotations of all tenants. A key that such
// a rotation has made is not too old, even if a clock that was set back since says so.
func (p plan) campaignKey() string { return campaignPrefix + p.settings.RotateRequest + "/" }

// deferred reports whether t's rotation was cancelled since all tenants were to be
// rotated, and so waits. A failure before that does not defer it: one try in the new
// key's name is what was asked for.
func (p plan) deferred(t *tenant.Record) bool {
	return p.now.Before(t.RotateAfter) && t.Last != nil && !t.Last.EndedAt.Before(p.settings.RotateBefore)
}

// lookAgain returns when to look again at a tenant that is not due.
func (p plan) lookAgain(t *tenant.Record) uint32 {
	if t.State != tenant.Active || t.Rotation != nil || t.RotationPaused && !t.RotatePaused && !p.asked(t) {
		return never // a change of the record tells
	}
	return ceil(p.dueAt(t))
}
