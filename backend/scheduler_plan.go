// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package backend

import (
	"context"
	"hash/fnv"
	"time"

	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/store"
)

// plan is what decides which tenants are due.
type plan struct {
	now      time.Time
	settings store.RotationSettings
	jitter   time.Duration
}

func (s *scheduler) plan(ctx context.Context) (plan, error) {
	settings, err := s.b.store.RotationSettings(ctx)
	if err != nil {
		return plan{}, err
	}
	c, err := s.b.store.Config(ctx)
	return plan{s.b.now(), settings, c.SchedulerJitter}, err
}

// lastRotated is the latest day of rotation on which a tenant may be due.
func (p plan) lastRotated() string {
	last := p.now.Add(-store.IntervalLength(p.settings.RotationInterval))
	if !p.settings.RotateBefore.IsZero() && p.settings.RotateBefore.After(last) {
		last = p.settings.RotateBefore
	}
	return store.DayOf(last)
}

// lastDue is the latest day under which a tenant may lie that is due: today, or,
// while everyone is to be rotated, any.
func (p plan) lastDue(today string) string {
	if p.settings.RotateBefore.IsZero() {
		return today
	}
	return store.DayOf(p.now.Add(store.IntervalLength(store.DefaultRotationInterval)))
}

// due reports whether t's key is to be rotated now, and why.
func (p plan) due(t *store.Tenant) (reason string, due bool) {
	switch {
	case t.State != store.TenantActive || t.Rotation != nil || t.RotationPaused:
		return "", false
	case p.now.Before(t.RotateAfter):
		return "", false // put off, even if everyone is to be rotated
	case p.asked(t):
		return p.settings.RotateReason, true
	case !t.RotateAfter.IsZero():
		return t.RotateReason, true
	}
	return "", !p.now.Before(t.DueDate(p.settings).Add(p.spread(t)))
}

// asked reports whether t is among everyone who is to be rotated.
func (p plan) asked(t *store.Tenant) bool {
	return t.State == store.TenantActive && !t.RotationPaused && t.LastRotatedAt().Before(p.settings.RotateBefore)
}

// spread is a tenant's share of the jitter: the same at each look, another after
// each rotation.
func (p plan) spread(t *store.Tenant) time.Duration {
	if p.jitter <= 0 {
		return 0
	}
	h := fnv.New64a()
	_, _ = h.Write([]byte(t.Keys.Active().KeyID))
	return time.Duration(h.Sum64() % uint64(p.jitter)) // #nosec G115 -- below jitter
}
