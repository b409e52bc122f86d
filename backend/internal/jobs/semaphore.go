// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package jobs

import (
	"context"
	"slices"
	"sync"
)

// Semaphore bounds what is in flight at once, such as the pages of all rotations
// together. Its limit may change while it is in use. Waiters are served in the
// order of asking: a rotation asks for one place at a time, so rotations take turns.
type Semaphore struct {
	limit func() int // at least 1

	mu      sync.Mutex
	taken   int
	waiting []chan struct{} // each closed when its place is given
}

// NewSemaphore returns a Semaphore with as many places as limit says at the time,
// at least 1.
func NewSemaphore(limit func() int) *Semaphore { return &Semaphore{limit: limit} }

// Acquire waits for a place. It fails only with the context's error.
func (s *Semaphore) Acquire(ctx context.Context) error {
	place := s.Request()
	select {
	case <-place:
		return nil
	case <-ctx.Done():
		if !s.giveUp(place) {
			s.Release() // it was given meanwhile
		}
		return ctx.Err()
	}
}

// Request asks for a place; the channel is closed when it is given. A waiter is
// woken by a release: there is one to come, since all places are taken.
func (s *Semaphore) Request() chan struct{} {
	limit := s.limit()
	place := make(chan struct{})
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.taken < limit && len(s.waiting) == 0 {
		s.taken++
		close(place)
	} else {
		s.waiting = append(s.waiting, place)
	}
	return place
}

// giveUp takes a waiter off the queue; false if its place has been given.
func (s *Semaphore) giveUp(place chan struct{}) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	i := slices.Index(s.waiting, place)
	if i < 0 {
		return false
	}
	s.waiting = slices.Delete(s.waiting, i, i+1)
	return true
}

// Release gives a place back, and as many as the limit now allows to waiters.
func (s *Semaphore) Release() {
	limit := s.limit()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.taken--
	s.give(limit)
}

// Adjust gives as many places to waiters as the limit now allows.
func (s *Semaphore) Adjust() {
	limit := s.limit()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.give(limit)
}

// give gives places to waiters, up to a limit. s.mu is held.
func (s *Semaphore) give(limit int) {
	for s.taken < limit && len(s.waiting) > 0 {
		close(s.waiting[0])
		s.waiting = s.waiting[1:]
		s.taken++
	}
}

// Empty reports whether no place is taken.
func (s *Semaphore) Empty() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.taken == 0
}
