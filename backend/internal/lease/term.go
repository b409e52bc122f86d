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
