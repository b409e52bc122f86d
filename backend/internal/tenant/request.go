// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package tenant

import (
	"time"

	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/actor"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/settings"
)

// Request is a request to rotate one tenant, which it names.
type Request struct {
	// FirstVersion is the first version of the key that serves the request: the next
	// one when it was made.
	FirstVersion  int  `json:"first_version"`
	IncludePaused bool `json:"include_paused,omitempty"` // it holds though the tenant is paused

	At     time.Time   `json:"at"`
	By     actor.Actor `json:"by"`
	Reason string      `json:"reason,omitempty"`
	// Requests identifies the latest requests, the last one last
	// ([actor.RequestDigest]): one that is repeated asks for nothing more.
	Requests []string `json:"requests,omitempty"`
	Served   bool     `json:"served,omitempty"`
}

// Ask notes a request for a rotation of t, and ends a back-off. It returns
// [ErrUnchanged] for a request that is repeated.
func (t *Record) Ask(a settings.Ask) error {
	next := Request{
		FirstVersion: t.Keys.Next, IncludePaused: a.IncludePaused, At: a.At, By: a.By.Bare(), Reason: a.Reason,
	}
	var latest []string
	if was := t.Request; was != nil {
		latest = was.Requests
		next.IncludePaused = next.IncludePaused || !was.Served && was.IncludePaused
	}
	var isNew bool
	if next.Requests, isNew = actor.NoteRequest(latest, a.Request); !isNew {
		return ErrUnchanged
	}
	t.Request = &next
	t.RotateAfter, t.FailedInARow = time.Time{}, 0
	return nil
}

// End ends the unfinished rotation of t as ended says. Only one that completes settles
// what is owed: the campaign whose number its start has read, and a request that was
// made before its version.
func (t *Record) End(ended *Rotation) {
	t.Rotation, t.Last = nil, ended
	if ended.Phase != Completed {
		return
	}
	t.Campaign = max(t.Campaign, ended.Campaign)
	if t.Request != nil && ended.To >= t.Request.FirstVersion {
		t.Request.Served = true
	}
}

// Owed says to what a tenant owes a rotation.
type Owed struct {
	Campaign, Request bool
	// IncludePaused says that a pause of the tenant does not hold it up.
	IncludePaused bool
}

// Any reports whether a rotation is owed.
func (o Owed) Any() bool { return o.Campaign || o.Request }

// Owes returns to what t owes a rotation.
func (t *Record) Owes(s settings.Rotation) (o Owed) {
	o.Campaign = t.Campaign < s.Campaign.Number
	o.Request = t.Request != nil && !t.Request.Served
	o.IncludePaused = t.Campaign < s.Campaign.IncludePaused || o.Request && t.Request.IncludePaused
	return o
}

// Tried reports whether the latest attempt to rotate t was for all that is owed: then
// its failure, or its cancel, puts the next one off.
func (t *Record) Tried(s settings.Rotation) bool {
	o := t.Owes(s)
	return t.Last != nil && (!o.Campaign || t.Last.Campaign >= s.Campaign.Number) &&
		(!o.Request || t.Last.To >= t.Request.FirstVersion)
}

// MaxBackoff is the longest time that the schedule waits after a rotation that failed
// or was cancelled.
const MaxBackoff = 32 * 24 * time.Hour

// Waits reports whether the schedule waits, at now, after a rotation of t that failed or
// was cancelled. A date further away than any back-off was set by a clock that was
// ahead, and does not count.
func (t *Record) Waits(s settings.Rotation, now time.Time) bool {
	wait := t.RotateAfter.Sub(now)
	return !t.RotateAfter.IsZero() && wait > 0 && wait <= MaxBackoff && t.Tried(s)
}
