// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package schedule

import (
	"context"
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
func (p plan) decidesAs(q plan) bool {
	was, is := p.settings, q.settings
	return was.RotationInterval == is.RotationInterval && was.Campaign.Number == is.Campaign.Number &&
		was.Campaign.IncludePaused == is.Campaign.IncludePaused && p.jitter == q.jitter
}

// dueKind says why a tenant is due.
type dueKind int

const (
	notDue    dueKind = iota
	byAge             // its interval has passed
	requested         // it owes a rotation that a caller has asked for
	byRetry           // its latest rotation failed, and is to go on
)

// due reports what is to be done with t's key now.
func (p plan) due(t *tenant.Record) dueKind {
	if t.State != tenant.Active || t.Rotation != nil {
		return notDue
	}
	if owed := t.Owes(p.settings); owed.Any() && (!t.RotationPaused || owed.IncludePaused) {
		switch {
		case t.Waits(p.settings, p.now):
			return notDue
		case !t.Tried(p.settings) || t.Last.Phase != tenant.Failed:
			return requested
		}
		return byRetry
	}
	if t.RotationPaused || p.now.Before(p.dueAt(t)) {
		return notDue
	}
	if t.FailedInARow > 0 && p.now.Before(t.Expires(p.settings)) {
		return byRetry
	}
	return byAge
}

// dueAt returns when t is due by its key's age, or after its latest attempt.
func (p plan) dueAt(t *tenant.Record) time.Time {
	if t.RotateAfter.IsZero() || t.RotateAfter.Sub(p.now) > tenant.MaxBackoff {
		jitter := p.jitterOf(settings.IntervalLength(t.RotationInterval))
		return t.Expires(p.settings).Add(share(jitter, hash32(t.Keys.Active().KeyID)))
	}
	return t.DueByAge(p.settings)
}

// jitterOf returns the time over which rotations of tenants with an interval of their
// own are spread: at most a tenth of it. 0 is the organization's.
func (p plan) jitterOf(interval time.Duration) time.Duration {
	if interval == 0 {
		return p.jitter
	}
	return min(p.jitter, interval/10)
}
