// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

// Package lease has the time for which opened keys may be used: what a key provider says of
// one key-encryption key holds for every key beneath it at once.
package lease

import (
	"math"
	"sync/atomic"
	"time"
)

// Term is how long an opened KEK, and every key opened beneath it, may be used. All of
// them share one, so that what a provider says holds for all at once.
type Term struct {
	now func() time.Time
	end atomic.Int64 // Unix time in nanoseconds; over: for good

	renew   func()       // nil: it is not renewed
	renewAt atomic.Int64 // Unix time in nanoseconds
}

const (
	over    = math.MinInt64
	forever = math.MaxInt64
)

// Until returns a term with an end, by the clock now.
func Until(now func() time.Time, end time.Time) *Term {
	t := &Term{now: now}
	t.end.Store(end.UnixNano())
	return t
}

// Forever returns a term that ends only when it is finished.
func Forever(now func() time.Time) *Term {
	t := &Term{now: now}
	t.end.Store(forever)
	return t
}

// Over reports whether the term has ended. A key that was opened in it is opened anew.
func (t *Term) Over() bool {
	end := t.end.Load()
	return end != forever && t.now().UnixNano() >= end
}

// RenewBy has each use from a moment on that [Term.RenewFrom] names call renew, which does not
// wait and takes no lock that a user of a key may hold. It is called before the term is used.
func (t *Term) RenewBy(renew func()) { t.renew = renew }

// RenewFrom sets from when on a use has the term renewed.
func (t *Term) RenewFrom(at time.Time) { t.renewAt.Store(at.UnixNano()) }

// Use reports whether the KEK, or a key beneath it, may be used now, and has the term renewed
// if it nears its end. So it does not end as long as it is used, and no use waits for that.
func (t *Term) Use() bool {
	end := t.end.Load()
	if end == forever {
		return true
	}
	now := t.now().UnixNano()
	if now >= end {
		return false
	}
	if t.renew != nil && now >= t.renewAt.Load() {
		t.renew()
	}
	return true
}

// Finish ends the term for good.
func (t *Term) Finish() { t.end.Store(over) }

// Extend moves the end, and reports whether the term had not been ended for good.
func (t *Term) Extend(end time.Time) bool {
	for {
		was := t.end.Load()
		if was == over {
			return false
		}
		if t.end.CompareAndSwap(was, end.UnixNano()) {
			return true
		}
	}
}

// End returns when the term ends, zero if it does not, or has been finished.
func (t *Term) End() time.Time {
	end := t.end.Load()
	if end == forever || end == over {
		return time.Time{}
	}
	return time.Unix(0, end).UTC()
}
