// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package histories

import (
	"math/rand/v2"
	"runtime"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/storagetest"
)

// scheduler lets one operation of storage go on at a time, in an order drawn at random.
// Some hang while many others go on. The engine's locks are as they are: what waits for
// one makes no operation.
type scheduler struct {
	random *rand.Rand // of the order
	failed *rand.Rand // of what fails

	mu      sync.Mutex
	open    bool // everything goes on at once
	waiting []*operation
	arrived chan struct{}                 // holds one element if an operation has come to wait since step has looked
	dead    map[*storagetest.Storage]bool // of processes that have ended
	steps   int
	faults  faults
}

// operation waits to be made.
type operation struct {
	on     *storagetest.Storage
	name   string
	goOn   chan struct{}
	hangs  int // until so many steps have been made
	writes bool
}

// faults are how often operations fail, out of 1,000.
type faults struct{ writes, reads, hangs int }

func newScheduler(seed uint64) *scheduler {
	return &scheduler{
		random: rand.New(rand.NewPCG(seed, 2)), failed: rand.New(rand.NewPCG(seed, 3)),
		open: true, dead: map[*storagetest.Storage]bool{}, arrived: make(chan struct{}, 1),
	}
}

// rule puts the operations of a storage under the scheduler.
func (s *scheduler) rule(on *storagetest.Storage) {
	on.Hook(func(op, key string) { s.wait(on, op, key) })
	on.Fail(func(op, _ string) storagetest.Fault { return s.fails(op) })
}

func (s *scheduler) wait(on *storagetest.Storage, op, key string) {
	s.mu.Lock()
	if s.open || s.dead[on] {
		s.mu.Unlock()
		return
	}
	o := &operation{on: on, name: op + " " + key, goOn: make(chan struct{}), writes: isWrite(op)}
	s.waiting = append(s.waiting, o)
	select {
	case s.arrived <- struct{}{}:
	default:
	}
	s.mu.Unlock()
	<-o.goOn
}

func isWrite(op string) bool { return op == "put" || op == "delete" }

// fails draws whether an operation fails, and how.
func (s *scheduler) fails(op string) storagetest.Fault {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.open {
		return storagetest.None
	}
	n := s.failed.IntN(1000)
	if isWrite(op) {
		if n >= s.faults.writes {
			return storagetest.None
		}
		return []storagetest.Fault{storagetest.Before, storagetest.After, storagetest.AfterStale, storagetest.AfterStale}[s.failed.IntN(4)]
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

// step lets one operation go on. Where there is none, time passes, or one comes: on a busy
// machine its goroutine may not have run yet. If it holds a lock that another waits for, no
// time passes.
func (s *scheduler) step() {
	settle()
	s.mu.Lock()
	s.steps++
	if len(s.waiting) == 0 {
		select {
		case <-s.arrived: // what came before has gone on
		default:
		}
		s.mu.Unlock()
		select {
		case <-s.arrived:
		case <-time.After(10 * time.Millisecond):
		}
		return
	}
	next := s.draw()
	s.release(func(o *operation) bool { return o == next })
	s.mu.Unlock()
}

// draw draws the operation that goes on. In which order they came does not matter. s.mu is
// held.
func (s *scheduler) draw() *operation {
	slices.SortStableFunc(s.waiting, func(a, b *operation) int { return strings.Compare(a.name, b.name) })
	for {
		ready := slices.DeleteFunc(slices.Clone(s.waiting), func(o *operation) bool { return o.hangs > s.steps })
		if len(ready) == 0 {
			ready = s.waiting
		}
		next := ready[s.random.IntN(len(ready))]
		if next.hangs > 0 || s.random.IntN(1000) >= s.faults.hangs {
			return next
		}
		next.hangs = s.steps + 1 + s.random.IntN(200)
	}
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
