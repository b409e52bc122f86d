// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package storage

import (
	"sync"

	"github.com/hashicorp/golang-lru/v2/simplelru"
	"github.com/hashicorp/vault/sdk/helper/locksutil"
)

// Cache holds what was read of entries of storage, by their keys, or decoded from
// them, and forgets what was used least.
//
// It shows what Vault's own cache showed when the entry was read, or what was written
// since with success. What was read before a write of the entry ended, or while one
// was going on, is never kept: reading begins with a lease (memcached's word), which
// each beginning and each end of a write voids. After a write that failed, readers are
// back at storage, as if there were no cache.
//
// That something is not in the cache never means that it is not there. What is in it
// is shared: a caller that changes it changes a copy.
type Cache[V any] struct {
	mu      sync.Mutex
	values  *simplelru.LRU[string, V]
	weight  func(V) int
	total   int
	limit   int
	stripes [locksutil.LockCount]stripe // by the hash of the key
}

// Lease lets what was read since it was given be kept.
type Lease uint64

type stripe struct {
	lease   Lease
	writing int
}

// NewCache returns a cache of values that weigh limit at most, all together, and of at
// most number values.
func NewCache[V any](number, limit int, weight func(V) int) *Cache[V] {
	c := &Cache[V]{weight: weight, limit: limit}
	values, err := simplelru.NewLRU(number, func(_ string, v V) { c.total -= weight(v) })
	if err != nil {
		panic(err) // only for a number that is not positive
	}
	c.values = values
	return c
}

func (c *Cache[V]) stripe(key string) *stripe {
	return &c.stripes[locksutil.LockIndexForKey(key)]
}

// Get returns the value at key, if it is cached, and the lease to keep it under once
// it has been read.
func (c *Cache[V]) Get(key string) (v V, cached bool, lease Lease) {
	c.mu.Lock()
	defer c.mu.Unlock()
	v, cached = c.values.Get(key)
	return v, cached, c.stripe(key).lease
}

// Keep takes a value that was read since the lease was given.
func (c *Cache[V]) Keep(key string, v V, lease Lease) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if s := c.stripe(key); s.writing == 0 && s.lease == lease {
		c.add(key, v)
	}
}

// add makes room for a value and takes it.
func (c *Cache[V]) add(key string, v V) {
	c.values.Remove(key)
	c.total += c.weight(v)
	c.values.Add(key, v)
	for c.total > c.limit {
		c.values.RemoveOldest()
	}
}

// Begin notes that the entry is about to be written or deleted, and takes it out of
// the cache; had says whether it was there. End follows, however the write ends.
func (c *Cache[V]) Begin(key string) (had bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	s := c.stripe(key)
	s.lease++
	s.writing++
	return c.values.Remove(key)
}

// End notes that a write has ended. The value, if it is not nil, is what was written
// with success and is to be kept.
func (c *Cache[V]) End(key string, v *V) {
	c.mu.Lock()
	defer c.mu.Unlock()
	s := c.stripe(key)
	s.lease++
	s.writing--
	if v != nil {
		c.add(key, *v)
	}
}

// Drop forgets the value at key: the entry was written, or what was cached of it does
// not hold.
func (c *Cache[V]) Drop(key string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.stripe(key).lease++
	c.values.Remove(key)
}
