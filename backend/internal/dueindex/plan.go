// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package dueindex

import (
	"time"

	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/settings"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/tenant"
)

// Plan decides which tenants are due.
type Plan struct {
	Now      time.Time
	Settings settings.Rotation
	Jitter   time.Duration // of the organization's interval
	Order    uint64        // of two plans, the one whose settings were begun to be read later has the greater
}

// decidesAs reports whether two plans make the same tenants due at the same times. When they
// were made does not matter.
func (p Plan) decidesAs(q Plan) bool {
	was, is := p.Settings, q.Settings
	return was.RotationInterval == is.RotationInterval && was.Campaign.Number == is.Campaign.Number &&
		was.Campaign.IncludePaused == is.Campaign.IncludePaused && p.Jitter == q.Jitter
}

// DueKind says why a tenant is due.
type DueKind int

// The reasons for which a tenant is due.
const (
	NotDue    DueKind = iota
	ByKeyAge          // its interval has passed
	Requested         // it owes a rotation that a caller has asked for
	ByRetry           // its latest rotation failed, and is to go on
)

// Due reports what is to be done with t's key now.
func (p Plan) Due(t *tenant.Record) DueKind {
	if t.State != tenant.Active || t.Rotation != nil {
		return NotDue
	}
	if owed := t.Owes(p.Settings); owed.Any() && (!t.RotationPaused || owed.IncludePaused) {
		switch {
		case t.Waits(p.Settings, p.Now):
			return NotDue
		case !t.Tried(p.Settings) || t.Last.Phase != tenant.Failed:
			return Requested
		}
		return ByRetry
	}
	if t.RotationPaused || p.Now.Before(p.dueAt(t)) {
		return NotDue
	}
	if t.FailedInARow > 0 && p.Now.Before(t.Expires(p.Settings)) {
		return ByRetry
	}
	return ByKeyAge
}

// dueAt returns when t is due by its key's age, or after its latest attempt.
func (p Plan) dueAt(t *tenant.Record) time.Time {
	if t.RotateAfter.IsZero() || t.RotateAfter.Sub(p.Now) > tenant.MaxBackoff {
		jitter := p.jitterOf(settings.IntervalLength(t.RotationInterval))
		return t.Expires(p.Settings).Add(share(jitter, hash32(t.Keys.Active().KeyID)))
	}
	return t.DueByAge(p.Settings)
}

// jitterOf returns the time over which rotations of tenants with an interval of their
// own are spread: at most a tenth of it. 0 is the organization's.
func (p Plan) jitterOf(interval time.Duration) time.Duration {
	if interval == 0 {
		return p.Jitter
	}
	return min(p.Jitter, interval/10)
}
