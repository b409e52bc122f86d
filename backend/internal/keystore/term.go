// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package keystore

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

func newTerm(now func() time.Time, end int64) *Term {
	t := &Term{now: now}
	t.end.Store(end)
	return t
}

// Over reports whether the term has ended. A key that was opened in it is opened anew.
func (t *Term) Over() bool {
	end := t.end.Load()
	return end != forever && t.now().UnixNano() >= end
}

// finish ends the term for good.
func (t *Term) finish() { t.end.Store(over) }

// extend moves the end, and reports whether the term had not been ended for good.
func (t *Term) extend(end time.Time) bool {
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

// until returns when the term ends, zero if it does not.
func (t *Term) until() time.Time {
	end := t.end.Load()
	if end == forever || end == over {
		return time.Time{}
	}
	return time.Unix(0, end).UTC()
}
