// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package tenant

import (
	"time"

	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/settings"
)

// Interval returns how old t's key may get.
func (t *Record) Interval(s settings.Rotation) time.Duration {
	if t.RotationInterval != "" {
		return settings.IntervalLength(t.RotationInterval)
	}
	return settings.IntervalLength(s.RotationInterval)
}

// Expires returns when t's key reaches the age at which it is to be rotated. Requests,
// failures and pauses, which move the rotation itself, are not considered.
func (t *Record) Expires(s settings.Rotation) time.Time { return t.LastRotatedAt().Add(t.Interval(s)) }

// DueDate returns when the schedule is to rotate t's key, its jitter apart.
func (t *Record) DueDate(s settings.Rotation) time.Time {
	owed := t.Owes(s)
	switch {
	case owed.Any() && !t.RotateAfter.IsZero() && t.Tried(s):
		return t.RotateAfter
	case owed.Request:
		return t.Request.At
	case owed.Campaign:
		return s.Campaign.At
	}
	return t.DueByAge(s)
}

// DueByAge is DueDate as far as the key's age and the latest attempt decide, and no
// request.
func (t *Record) DueByAge(s settings.Rotation) time.Time {
	expires := t.Expires(s)
	switch {
	case t.RotateAfter.IsZero():
		return expires
	case t.Last != nil && t.Last.Phase == Failed:
		return t.RotateAfter
	case t.RotateAfter.After(expires):
		return t.RotateAfter
	}
	return expires
}

// NextRotation returns when the schedule is to rotate t's key next, its jitter apart;
// zero if it passes t over, because t is paused or being deleted.
func (t *Record) NextRotation(s settings.Rotation) time.Time {
	if t.RotationPaused || t.State != Active {
		return time.Time{}
	}
	return t.DueDate(s)
}

// ChangedAt returns when the active key took over from another; zero: it is the first.
func (t *Record) ChangedAt() time.Time {
	if v := t.Keys.Active(); v.RotationID != "" {
		return v.ActivatedAt
	}
	return time.Time{}
}
