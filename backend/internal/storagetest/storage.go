// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

// Package storagetest is a storage for tests that fails where a test wants it to, in
// the ways in which Vault's storage fails.
package storagetest

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"

	"github.com/hashicorp/vault/sdk/logical"
)

// ErrInjected is the error of an operation that is made to fail.
var ErrInjected = errors.New("injected storage fault")

// Fault is a way of failing.
type Fault int

// The faults.
const (
	// None fails nothing.
	None Fault = iota
	// Before fails an operation that takes no effect.
	Before
	// AfterStale fails a write that has taken effect, while Vault's cache goes on
	// showing the old value to Get, and List shows the new state.
	AfterStale
	// After fails a write that has taken effect, with no cache in the way.
	After
	// Gone fails this operation without effect, and every later one: the process
	// has died.
	Gone
)

// String names the fault.
func (f Fault) String() string {
	return [...]string{"none", "error before the effect", "error after it, stale cache", "error after it", "process gone"}[f]
}

// Storage is a disk as one plugin process sees it. It is safe for concurrent
// use.
type Storage struct {
	disk *Disk

	mu     sync.Mutex
	ops    int
	at     int // the operation that fails, from 1
	fault  Fault
	gone   bool
	log    []string
	decide func(op, key string) Fault
	before func(op, key string)
	after  func(op, key string)

	outage error // what every write fails with, and every read if reads is true
	reads  bool

	damageAt int // the operation before which damage strikes
	strike   func(*Disk)
}

var _ logical.Storage = (*Storage)(nil)

// Open returns a storage over disk that fails its nth operation, counted from 1.
func Open(disk *Disk, n int, fault Fault) *Storage {
	return &Storage{disk: disk, at: n, fault: fault}
}

// Ops returns how many operations there have been.
func (s *Storage) Ops() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.ops
}

// Kill lets every later operation fail: the process has died.
func (s *Storage) Kill() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.gone = true
}

// FailNext lets the nth operation from now fail.
func (s *Storage) FailNext(n int, fault Fault) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.at, s.fault = s.ops+n, fault
}

// Outage lets every write fail with err, without effect, and every read too if
// reads is true; nil ends it.
func (s *Storage) Outage(err error, reads bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.outage, s.reads = err, reads
}

// failure returns the error of an operation that fails.
func (s *Storage) failure() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.outage != nil {
		return s.outage
	}
	return ErrInjected
}

// Fail lets f say how each operation fails, by its name (get, put, delete, list) and
// key; nil ends that. It is called for one at a time, with the storage locked: so it
// may count, but neither block nor use the storage.
func (s *Storage) Fail(f func(op, key string) Fault) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.decide = f
}

// Hook calls f before every operation with its name (get, put, delete, list)
// and key; nil ends that. It may block, and be called for several at once.
func (s *Storage) Hook(f func(op, key string)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.before = f
}

// Done calls f after every operation, before the caller has its answer; nil ends
// that. It may block, and be called for several at once.
func (s *Storage) Done(f func(op, key string)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.after = f
}

func (s *Storage) done(op, key string) {
	s.mu.Lock()
	hook := s.after
	s.mu.Unlock()
	if hook != nil {
		hook(op, key)
	}
}

// Log returns all operations, such as "put key", in their order.
func (s *Storage) Log() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.log)
}

// next counts an operation and says how it fails.
func (s *Storage) next(op, key string) Fault {
	s.mu.Lock()
	hook := s.before
	s.mu.Unlock()
	if hook != nil {
		hook(op, key)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.gone {
		return Gone
	}
	s.ops++
	s.log = append(s.log, op+" "+key)
	if s.strike != nil && s.ops >= s.damageAt {
		s.strike(s.disk)
		s.strike = nil
	}
	if s.outage != nil && (s.reads || op == "put" || op == "delete") {
		return Before
	}
	fault := None
	if s.decide != nil {
		fault = s.decide(op, key)
	}
	if s.ops == s.at && s.fault != None {
		fault = s.fault
	}
	s.gone = fault == Gone
	return fault
}

// List lists the children of a prefix, folders with a slash at the end.
func (s *Storage) List(ctx context.Context, prefix string) ([]string, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	defer s.done("list", prefix)
	if s.next("list", prefix) != None {
		return nil, s.failure()
	}
	if err := s.disk.unlisted(prefix); err != nil {
		return nil, err
	}
	var children []string
	for _, k := range s.disk.Keys(prefix) {
		rest := strings.TrimPrefix(k, prefix)
		if folder, _, below := strings.Cut(rest, "/"); below {
			rest = folder + "/"
		}
		if n := len(children); n == 0 || children[n-1] != rest {
			children = append(children, rest)
		}
	}
	return children, nil
}

// Get reads an entry, as Vault's cache shows it.
func (s *Storage) Get(ctx context.Context, key string) (*logical.StorageEntry, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	defer s.done("get", key)
	if s.next("get", key) != None {
		return nil, s.failure()
	}
	s.disk.mu.Lock()
	defer s.disk.mu.Unlock()
	if err := s.disk.unreadable[key]; err != nil {
		return nil, err
	}
	if s.disk.hidden[key] {
		return nil, nil
	}
	if old, stale := s.disk.stale[key]; stale {
		return clone(old), nil
	}
	if e, found := s.disk.entries[key]; found {
		return clone(&e), nil
	}
	return nil, nil
}

// Put stores an entry.
func (s *Storage) Put(ctx context.Context, e *logical.StorageEntry) error {
	return s.write(ctx, "put", e.Key, func() { s.disk.put(*clone(e)) })
}

// Delete removes an entry.
func (s *Storage) Delete(ctx context.Context, key string) error {
	return s.write(ctx, "delete", key, func() { s.disk.remove(key) })
}

func (s *Storage) write(ctx context.Context, op, key string, effect func()) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	defer s.done(op, key)
	fault := s.next(op, key)
	if fault == Before || fault == Gone {
		return s.failure()
	}
	s.disk.mu.Lock()
	defer s.disk.mu.Unlock()
	if fault == AfterStale {
		s.disk.keepStale(key)
	} else {
		delete(s.disk.stale, key) // a write that succeeds sets the cache right
	}
	effect()
	s.disk.mend(key)
	if fault != None {
		return ErrInjected
	}
	return nil
}
