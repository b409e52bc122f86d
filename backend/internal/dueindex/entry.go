// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package dueindex

import (
	"hash/fnv"
	"math"
	"time"

	"github.com/google/uuid"

	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/settings"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/tenant"
)

// entry describes a tenant in the index, in 72 bytes and its name. Times are Unix seconds, rounded
// up, so no tenant is looked at before it is due.
type entry struct {
	id            uuid.UUID
	campaign      int64  // the latest campaign to which it owes nothing
	triedCampaign int64  // the campaign that was current when its latest rotation began
	rotatedAt     uint32 // when the active key took over
	interval      uint32 // the tenant's own, in seconds; 0: the organization's
	waitUntil     uint32 // the end of its back-off after a failure or a cancel; 0: none
	upkeepAt      uint32 // when a retired key or the tenant is to be destroyed; 0: also while its keys are moved
	spread        uint32 // its share of the jitter, as a fraction of 2^32
	lookAt        uint32 // when to look at it for a rotation
	seq           uint32 // of its latest change
	nameAt        uint32 // where its display name is: see names
	nameLen       uint16
	flags         flags
}

// unknown is greater than every campaign: a tenant of which nothing is known yet owes none.
const unknown = math.MaxInt64

type flags uint16

const (
	active           flags = 1 << iota // not being deleted
	shredding                          // its keys are being destroyed
	paused                             // the schedule passes it over
	unfinished                         // its rotation has not ended
	failed                             // its latest rotation failed
	suspected                          // what is known of it may be wrong
	unreadable                         // its record cannot be read
	blocked                            // it is due and cannot be rotated
	rotationIsPaused                   // its unfinished rotation is paused, not the tenant
	tried                              // one of its rotations has ended
	asked                              // it owes a rotation to a request that names it
	askedPaused                        // to one that also holds while the tenant is paused
	triedAsked                         // its latest rotation was to serve that request
	stillUsed                          // a version is in use though its holders report it gone
)

func (e *entry) is(f flags) bool { return e.flags&f != 0 }

// next returns when the entry is looked at next, for a rotation or for upkeep.
func (e *entry) next() uint32 { return min(e.lookAt, e.upkeepAt) }

// entryOf is the entry of a record.
func (p Plan) entryOf(t *tenant.Record) entry {
	e := entry{upkeepAt: upkeepAt(t)}
	switch t.State {
	case tenant.Shredding:
		e.flags |= shredding
	case tenant.Active:
		e.flags |= active
	}
	e.setRequest(t)
	if t.UsedThoughGone() != nil {
		e.flags |= stillUsed
	}
	if t.RotationPaused {
		e.flags |= paused
	}
	if t.Rotation != nil {
		e.flags |= unfinished
		if t.Rotation.Paused {
			e.flags |= rotationIsPaused
		}
	}
	if t.State != tenant.Shredding { // then its keys may be gone from the record
		v := t.Keys.Active()
		e.rotatedAt = ceil(v.ActivatedAt)
		e.spread = hash32(v.KeyID)
	}
	e.interval = seconds(settings.IntervalLength(t.RotationInterval))
	if !t.RotateAfter.IsZero() {
		e.waitUntil = ceil(t.RotateAfter)
	}
	e.lookAt = p.lookAt(&e)
	return e
}

// setRequest notes what t owes, and what its latest attempt was for.
func (e *entry) setRequest(t *tenant.Record) {
	e.campaign = t.Campaign
	if t.Last != nil {
		e.flags |= tried
		e.triedCampaign = t.Last.Campaign
		if t.Last.Phase == tenant.Failed {
			e.flags |= failed
		}
	}
	if q := t.Request; q != nil && !q.Served {
		e.flags |= asked
		if q.IncludePaused {
			e.flags |= askedPaused
		}
		if t.Last != nil && t.Last.To >= q.FirstVersion {
			e.flags |= triedAsked
		}
	}
}

// DestructionDue reports whether a key of t is to be destroyed now, or t itself.
func DestructionDue(t *tenant.Record, now time.Time) bool { return destroyAt(t) <= clamp(now.Unix()) }

// upkeepAt returns when to look at t for other work than a rotation: now if its keys are
// being moved to another KEK.
func upkeepAt(t *tenant.Record) uint32 {
	if t.Moving() {
		return 0
	}
	return destroyAt(t)
}

// destroyAt returns when a key of t is to be destroyed, or t itself: never if
// that waits for the end of a rotation, which looks at the keys.
func destroyAt(t *tenant.Record) uint32 {
	switch t.State {
	case tenant.Shredding:
		return 0
	case tenant.Deleting:
		return ceil(t.DeleteAfter)
	}
	at := retiredAt(t)
	for i := range t.Keys.Versions {
		v := &t.Keys.Versions[i]
		if ends := t.ExternalKeyEnds(v); !ends.IsZero() {
			at = min(at, ceil(ends))
		}
	}
	return at
}

// RetiredDue reports whether the page key of a retired version of t is to be destroyed now.
func RetiredDue(t *tenant.Record, now time.Time) bool { return retiredAt(t) <= clamp(now.Unix()) }

// retiredAt returns when the page key of a retired version of t is to be destroyed.
func retiredAt(t *tenant.Record) uint32 {
	at := uint32(never)
	for i := range t.Keys.Versions {
		if v := &t.Keys.Versions[i]; !v.DestroyAfter.IsZero() && t.Rotation == nil {
			at = min(at, ceil(v.DestroyAfter))
		}
	}
	return at
}

// lookAt returns when to look at a tenant for a rotation. It mirrors [Plan.Due] on what an
// entry holds, and the two must be changed together: lookAt may be earlier than the time
// from which Due says so, which costs one visit, and must never be later, since nothing
// else looks at the tenant before its record is read again, up to a day later.
func (p Plan) lookAt(e *entry) uint32 {
	switch {
	case e.is(suspected):
		return 0
	case !e.is(active) || e.is(unfinished):
		return never
	case p.owes(e) && (!e.is(paused) || p.includesPaused(e)):
		if p.waits(e) {
			return e.waitUntil
		}
		return 0
	case e.is(paused):
		return never
	case !p.backOffHolds(e):
		return p.dueWithJitter(e)
	case e.is(failed):
		return e.waitUntil
	}
	return max(e.waitUntil, p.expires(e))
}

// owes reports whether a tenant owes a rotation: see [tenant.Record.Owes].
func (p Plan) owes(e *entry) bool {
	return !e.is(shredding) && (e.campaign < p.Settings.Campaign.Number || e.is(asked))
}

// includesPaused reports whether what a tenant owes holds though it is paused.
func (p Plan) includesPaused(e *entry) bool {
	return e.campaign < p.Settings.Campaign.IncludePaused || e.is(askedPaused)
}

// backOffHolds reports whether a tenant has a back-off that a correct clock can have set. One
// that ends later than any back-off was set by a clock that was ahead: see
// [tenant.Record.Waits].
func (p Plan) backOffHolds(e *entry) bool {
	return e.waitUntil != 0 && e.waitUntil <= add(clamp(p.Now.Unix()), seconds(tenant.MaxBackoff)+1)
}

// waits reports whether a tenant that owes a rotation waits after its latest attempt.
func (p Plan) waits(e *entry) bool {
	return p.backOffHolds(e) && e.is(tried) && (e.campaign >= p.Settings.Campaign.Number || e.triedCampaign >= p.Settings.Campaign.Number) &&
		(!e.is(asked) || e.is(triedAsked))
}

// expires returns when a key reaches the age at which it is to be rotated.
func (p Plan) expires(e *entry) uint32 {
	interval := e.interval
	if interval == 0 {
		interval = seconds(settings.IntervalLength(p.Settings.RotationInterval))
	}
	return add(e.rotatedAt, interval)
}

// dueWithJitter returns when a tenant is due by its key's age, its share of the jitter added.
func (p Plan) dueWithJitter(e *entry) uint32 {
	return add(p.expires(e), seconds(share(p.jitterOf(time.Duration(e.interval)*time.Second), e.spread)))
}

func hash32(s string) uint32 {
	h := fnv.New32a()
	_, _ = h.Write([]byte(s))
	return h.Sum32()
}

// share is the part of d that n is of 2^32.
func share(d time.Duration, n uint32) time.Duration {
	return time.Duration(float64(d) * float64(n) / (1 << 32))
}

func ceil(t time.Time) uint32 {
	if t.Nanosecond() > 0 {
		return clamp(t.Unix() + 1)
	}
	return clamp(t.Unix())
}

func seconds(d time.Duration) uint32 { return clamp(int64((d + time.Second - 1) / time.Second)) }

func add(a, b uint32) uint32 { return clamp(int64(a) + int64(b)) }

func clamp(n int64) uint32 { return uint32(min(max(n, 0), math.MaxUint32-1)) } // #nosec G115 -- within
