// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package histories

import (
	"math/rand/v2"
	"runtime"
	"sync"
	"time"

	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/storagetest"
)

// scheduler lets one operation of storage go on at a time, in an order drawn at random.
// Some hang while many others go on. The engine's locks are as they are: what waits for
// one makes no operation.
type scheduler struct {
	random *rand.Rand

	mu      sync.Mutex
	open    bool // everything goes on at once
	waiting []*operation
	dead    map[*storagetest.Storage]bool // of processes that have ended
	steps   int
	faults  faults
}

// operation waits to be made.
type operation struct {
	on     *storagetest.Storage
	goOn   chan struct{}
	hangs  int // until so many steps have been made
	writes bool
}

// faults are how often operations fail, out of 1,000.
type faults struct{ writes, reads, hangs int }

func newScheduler(random *rand.Rand) *scheduler {
	return &scheduler{random: random, open: true, dead: map[*storagetest.Storage]bool{}}
}

// rule puts the operations of a storage under the scheduler.
func (s *scheduler) rule(on *storagetest.Storage) {
	on.Hook(func(op, _ string) { s.wait(on, op) })
	on.Fail(func(op, _ string) storagetest.Fault { return s.fails(op) })
}

func (s *scheduler) wait(on *storagetest.Storage, op string) {
	s.mu.Lock()
	if s.open || s.dead[on] {
		s.mu.Unlock()
		return
	}
	o := &operation{on: on, goOn: make(chan struct{}), writes: isWrite(op)}
	if s.random.IntN(1000) < s.faults.hangs {
		o.hangs = s.steps + s.random.IntN(200)
	}
	s.waiting = append(s.waiting, o)
	s.mu.Unlock()
	<-o.goOn
}

func isWrite(op string) bool { return op == "put" || op == "delete" }

// fails draws whether an operation fails, and how.
func (s *scheduler) fails(op string) storagetest.Fault {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := s.random.IntN(1000)
	if isWrite(op) {
		if n >= s.faults.writes {
			return storagetest.None
		}
		return []storagetest.Fault{storagetest.Before, storagetest.After, storagetest.AfterStale, storagetest.AfterStale}[s.random.IntN(4)]
	}
	if n < s.faults.reads {
		return storagetest.Before
	}
	return storagetest.None
}

// begin puts everything in an order, with so many faults.
func (s *scheduler) begin(f faults) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.open, s.faults = false, f
}

// end lets everything go on, and nothing fail.
func (s *scheduler) end() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.open, s.faults = true, faults{}
	s.release(func(*operation) bool { return true })
}

// release lets operations go on. s.mu is held.
func (s *scheduler) release(which func(*operation) bool) {
	var left []*operation
	for _, o := range s.waiting {
		if which(o) {
			close(o.goOn)
		} else {
			left = append(left, o)
		}
	}
	s.waiting = left
}

// settle lets every goroutine run until it waits.
func settle() {
	for range 4 {
		runtime.Gosched()
	}
}

// step lets one operation go on. Where there is none, time passes.
func (s *scheduler) step() {
	settle()
	s.mu.Lock()
	s.steps++
	if len(s.waiting) == 0 {
		s.mu.Unlock()
		<-time.After(10 * time.Millisecond)
		return
	}
	var ready []*operation
	for _, o := range s.waiting {
		if o.hangs <= s.steps {
			ready = append(ready, o)
		}
	}
	if len(ready) == 0 {
		ready = s.waiting
	}
	next := ready[s.random.IntN(len(ready))]
	s.release(func(o *operation) bool { return o == next })
	s.mu.Unlock()
}

// abandon ends a process: of its operations that wait, writes may still be made, if its
// node goes on for a while, and everything later fails.
func (s *scheduler) abandon(on *storagetest.Storage, lands bool) {
	s.mu.Lock()
	if lands {
		s.release(func(o *operation) bool { return o.on == on && o.writes && s.random.IntN(2) == 0 })
	}
	s.mu.Unlock()
	settle()
	on.Kill()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.dead[on] = true
	s.release(func(o *operation) bool { return o.on == on })
}
