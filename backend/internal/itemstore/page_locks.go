// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package itemstore

import (
	"hash/maphash"
	"sync"
)

// pageLocks are locks of pages, many of which share one. They are more than those
// of package locksutil, of which there are 256: of 16 writers on as many pages, two
// met at one of them half of the time, and the second waited for storage twice.
type pageLocks struct {
	seed  maphash.Seed
	locks [4096]sync.Mutex
}

func newPageLocks() *pageLocks { return &pageLocks{seed: maphash.MakeSeed()} }

// lock takes the lock of the page at a storage key and returns what releases it.
func (l *pageLocks) lock(key string) (release func()) {
	m := &l.locks[maphash.String(l.seed, key)%uint64(len(l.locks))]
	m.Lock()
	return m.Unlock
}
