// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package provider

import (
	"errors"
	"slices"
	"time"
)

// ResultBusy is the result of a call for which no place was left: it was not made. The
// other results are the states that calls come to.
const ResultBusy = "busy"

// durationBounds are the upper bounds of [Durations.Buckets]. A call ends after
// [MaxTimeout] at the latest.
var durationBounds = []time.Duration{
	5 * time.Millisecond, 10 * time.Millisecond, 25 * time.Millisecond, 50 * time.Millisecond, 100 * time.Millisecond,
	250 * time.Millisecond, 500 * time.Millisecond, time.Second, 2500 * time.Millisecond, 5 * time.Second, 10 * time.Second, MaxTimeout,
}

// DurationBounds returns the upper bounds of [Durations.Buckets].
func DurationBounds() []time.Duration { return slices.Clone(durationBounds) }

// Durations describes how long calls took.
type Durations struct {
	Count   int64
	Sum     time.Duration
	Buckets []int64 // how many took no longer than each of [DurationBounds]
}

// Figures describes the calls to a provider since the engine started. Calls that a write
// of the provider's settings makes, and renewals of its token, are not among them.
type Figures struct {
	OK, Denied, Unavailable, Busy int64
	Took                          Durations // of those that were made
}

// Figures returns the figures of a provider, zero if it was not called.
func (s *Store) Figures(name string) Figures {
	s.mu.Lock()
	defer s.mu.Unlock()
	f := s.figures[name]
	f.Took.Buckets = slices.Clone(f.Took.Buckets)
	if f.Took.Buckets == nil {
		f.Took.Buckets = make([]int64, len(durationBounds))
	}
	return f
}

// count counts a call. failed is nil for one that succeeded.
func (s *Store) count(name string, failed *Error, took time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f := s.figures[name]
	switch {
	case failed == nil:
		f.OK++
	case errors.Is(failed.Kind, ErrBusy):
		f.Busy++
	case errors.Is(failed.Kind, ErrDenied):
		f.Denied++
	default:
		f.Unavailable++
	}
	if failed == nil || !errors.Is(failed.Kind, ErrBusy) {
		f.Took.add(took)
	}
	s.figures[name] = f
}

func (d *Durations) add(took time.Duration) {
	if d.Buckets == nil {
		d.Buckets = make([]int64, len(durationBounds))
	}
	d.Count++
	d.Sum += took
	for i, bound := range durationBounds {
		if took <= bound {
			d.Buckets[i]++
		}
	}
}
