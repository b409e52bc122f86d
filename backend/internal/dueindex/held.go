// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package dueindex

import (
	"maps"
	"time"
)

// reason says why a tenant is not rotated though it should be, the worst first.
type reason uint8

const (
	unreadableRecord reason = iota
	refusedStart            // the index keeps why
	rotationPaused
	afterFailure
	afterCancel
	tenantPaused
	tenantDeleting
	usedThoughGone
	notHeld
)

// hold is what holds up a tenant's rotation, and until when, in Unix seconds.
type hold struct {
	reason reason
	until  uint32
}

// heldUp says what holds a tenant up that is due or owes a rotation.
func (p Plan) heldUp(e *entry, now uint32) hold {
	switch {
	case e.is(unreadable):
		return hold{reason: unreadableRecord}
	case e.is(blocked):
		return hold{reason: refusedStart}
	case !p.owes(e):
		return hold{reason: e.keepsKey()}
	case !e.is(active):
		return hold{reason: tenantDeleting}
	case e.is(unfinished):
		if e.is(rotationIsPaused) {
			return hold{reason: rotationPaused}
		}
	case e.is(paused) && !p.includesPaused(e):
		return hold{reason: tenantPaused}
	case p.waits(e) && now < e.waitUntil:
		if e.is(failed) {
			return hold{afterFailure, e.waitUntil}
		}
		return hold{afterCancel, e.waitUntil}
	}
	return hold{reason: e.keepsKey()}
}

// keepsKey says whether an external key is kept since it was used after all holders had
// reported its version gone.
func (e *entry) keepsKey() reason {
	if e.is(stillUsed) {
		return usedThoughGone
	}
	return notHeld
}

// texts are the reasons as status gives them.
var texts = map[reason]string{
	unreadableRecord: "the tenant's record cannot be read",
	refusedStart:     "its rotation cannot start",
	rotationPaused:   "its rotation is paused: resume or cancel it",
	tenantPaused:     "a rotation was asked for, and rotation_paused is set",
	tenantDeleting:   "a rotation was asked for, and the tenant is being deleted: it is rotated if it is restored",
	usedThoughGone:   "something was opened, or refused, under a version that all holders have reported gone: its external key is kept for another retention",
}

func (h hold) text() string {
	switch until := time.Unix(int64(h.until), 0).UTC().Format(time.RFC3339); h.reason {
	case afterFailure:
		return "its rotation failed: it is tried again at " + until
	case afterCancel:
		return "its rotation was cancelled: another starts at " + until
	default:
		return texts[h.reason]
	}
}

// why returns the reasons of tenants that are held up.
func (x *Index) why(blocked []listed) map[string]string {
	x.mu.Lock()
	reasons := maps.Clone(x.reasons)
	x.mu.Unlock()
	why := make(map[string]string, len(blocked))
	for _, l := range blocked {
		id := l.id.String()
		why[id] = l.hold.text()
		if kept := reasons[id]; kept != "" && l.hold.reason == refusedStart {
			why[id] = kept
		}
	}
	return why
}
