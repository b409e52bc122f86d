// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package schedule

import (
	"hash/fnv"
	"math"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/settings"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/tenant"
)

// entry describes a tenant in the index, in 56 bytes and its name. Times are Unix seconds, rounded
// up, so no tenant is looked at before it is due.
type entry struct {
	id        uuid.UUID
	rotatedAt uint32 // when the active key took over
	interval  uint32 // the tenant's own, in seconds; 0: the organization's
	ownDate   uint32 // when it is due by a date of its own; 0: it has none
	upkeepAt  uint32 // when a retired key or the tenant is to be destroyed
	spread    uint32 // its share of the jitter, of 2^32
	campaign  uint32 // the request for all tenants that the active key meets: see campaignOf
	lookAt    uint32 // when to look at it for a rotation
	seq       uint32 // of its latest change
	nameAt    uint32 // where its display name is: see names
	nameLen   uint16
	flags     flags
}

type flags uint16

const (
	active     flags = 1 << iota // not being deleted
	shredding                    // its keys are being destroyed
	paused                       // the schedule passes it over
	unfinished                   // its rotation has not ended
	failed                       // its latest rotation failed
	suspected                    // what is known of it may be wrong
	unreadable                   // its record cannot be read
	blocked                      // it is due and cannot be rotated
	pausedToo                    // its own date holds though it is paused
)

func (e *entry) is(f flags) bool { return e.flags&f != 0 }

// next returns when the entry is looked at next, for a rotation or for upkeep.
func (e *entry) next() uint32 { return min(e.lookAt, e.upkeepAt) }

// entryOf is the entry of a record.
func (p plan) entryOf(t *tenant.Record) entry {
	e := entry{upkeepAt: upkeepAt(t)}
	switch t.State {
	case tenant.Shredding:
		e.flags |= shredding
	case tenant.Active:
		e.flags |= active
	}
	if t.RotationPaused {
		e.flags |= paused
	}
	if t.RotatePaused {
		e.flags |= pausedToo
	}
	if t.Rotation != nil {
		e.flags |= unfinished
	}
	if t.Last != nil && t.Last.Phase == tenant.Failed {
		e.flags |= failed
	}
	if t.State != tenant.Shredding { // then its keys may be gone from the record
		v := t.Keys.Active()
		e.rotatedAt = ceil(v.ActivatedAt)
		e.campaign = campaignOf(v.IdempotencyKey)
		if before := p.settings.RotateBefore; !before.IsZero() && !v.ActivatedAt.Before(before) {
			e.campaign = hash32(p.settings.RotateRequest) // it needs no rotation for that
		}
		e.spread = hash32(v.KeyID)
	}
	e.interval = seconds(settings.IntervalLength(t.RotationInterval))
	if !t.RotateAfter.IsZero() {
		e.ownDate = ceil(t.RotateAfter)
	}
	e.lookAt = p.lookAt(&e)
	return e
}

// upkeepAt returns when a retired key of t is to be destroyed, or t itself: never if
// that waits for the end of a rotation, which looks at the keys.
func upkeepAt(t *tenant.Record) uint32 {
	switch t.State {
	case tenant.Shredding:
		return 0
	case tenant.Deleting:
		return ceil(t.DeleteAfter)
	}
	at := uint32(never)
	for i := range t.Keys.Versions {
		if v := &t.Keys.Versions[i]; !v.DestroyAfter.IsZero() && t.Rotation == nil {
			at = min(at, ceil(v.DestroyAfter))
		}
	}
	return at
}

// lookAt returns when to look at a tenant for a rotation.
func (p plan) lookAt(e *entry) uint32 {
	switch {
	case e.is(suspected):
		return 0
	case !e.is(active) || e.is(unfinished):
		return never
	case p.mayAsk(e) && (!e.is(paused) || p.settings.RotatePaused):
		return 0
	case e.is(paused) && !e.is(pausedToo):
		return never
	case e.ownDate != 0:
		return e.ownDate
	}
	return p.dueWithin(e)
}

// expires returns when a key reaches the age at which it is to be rotated.
func (p plan) expires(e *entry) uint32 {
	interval := e.interval
	if interval == 0 {
		interval = seconds(settings.IntervalLength(p.settings.RotationInterval))
	}
	return add(e.rotatedAt, interval)
}

// dueWithin returns when a tenant is due by its key's age, with its share of the jitter.
func (p plan) dueWithin(e *entry) uint32 {
	return add(p.expires(e), seconds(share(p.jitterOf(time.Duration(e.interval)*time.Second), e.spread)))
}

// mayAsk reports whether a tenant may be among all that are to be rotated.
func (p plan) mayAsk(e *entry) bool {
	return !p.settings.RotateBefore.IsZero() && !e.is(shredding) &&
		e.rotatedAt <= ceil(p.settings.RotateBefore) && e.campaign != hash32(p.settings.RotateRequest)
}

// campaignPrefix begins the idempotency keys of rotations of all tenants; the
// request follows, and a slash.
const campaignPrefix = "everyone/"

// campaignOf tells, by its idempotency key, for which request for all tenants a key
// was made: a hash of the request, 0 if for none.
func campaignOf(idempotencyKey string) uint32 {
	rest, made := strings.CutPrefix(idempotencyKey, campaignPrefix)
	end := strings.LastIndexByte(rest, '/')
	if !made || end < 0 {
		return 0
	}
	return hash32(rest[:end])
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
