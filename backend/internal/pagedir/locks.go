// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package pagedir

import (
	"hash/maphash"
	"sync"
)

// Locks are locks of pages, many of which share one. They are more than those
// of package locksutil, of which there are 256: of 16 writers on as many pages, two
// met at one of them half of the time, and the second waited for storage twice.
type Locks struct {
	seed  maphash.Seed
	locks [4096]sync.Mutex
}

// NewLocks returns locks that nobody holds.
func NewLocks() *Locks { return &Locks{seed: maphash.MakeSeed()} }

// Lock takes the lock of the page at a storage key and returns what releases it.
func (l *Locks) Lock(key string) (release func()) {
	m := &l.locks[maphash.String(l.seed, key)%uint64(len(l.locks))]
	m.Lock()
	return m.Unlock
}
