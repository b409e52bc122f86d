// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package storage

import (
	"sync"

	"github.com/hashicorp/golang-lru/v2/simplelru"
	"github.com/hashicorp/vault/sdk/helper/locksutil"
)

// Cache holds values of entries of storage, raw or decoded, by their keys. It drops the
// least recently used.
//
// A value is the one that Vault's own cache showed when the entry was read, or the one
// last written successfully. A value that was read before or during a write of the entry
// is never kept: a read takes a lease (memcached's word), and each beginning and each
// end of a write voids it. After a failed write readers go back to storage.
//
// A missing value never means that the entry does not exist. Values are shared: a
// caller that changes one changes a copy.
type Cache[V any] struct {
	mu      sync.Mutex
	values  *simplelru.LRU[string, V]
	weight  func(V) int
	total   int
	limit   int
	hits    int64
	misses  int64
	stripes [locksutil.LockCount]stripe // by the hash of the key
}

// Lease allows a value that was read since it was given to be kept.
type Lease uint64

type stripe struct {
	lease   Lease
	writing int
}

// NewCache returns a cache of at most number values, whose weights add up to limit at
// most.
func NewCache[V any](number, limit int, weight func(V) int) *Cache[V] {
	c := &Cache[V]{weight: weight, limit: limit}
	values, err := simplelru.NewLRU(number, func(_ string, v V) { c.total -= weight(v) })
	if err != nil {
		panic(err) // only for a number that is not positive
	}
	c.values = values
	return c
}

// Limit changes what the weights may add up to.
func (c *Cache[V]) Limit(limit int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.limit = limit
	c.shrink()
}

func (c *Cache[V]) stripe(key string) *stripe {
	return &c.stripes[locksutil.LockIndexForKey(key)]
}

// Get returns the value at key, if it is cached, and the lease to keep it under once
// it has been read.
func (c *Cache[V]) Get(key string) (v V, cached bool, lease Lease) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if v, cached = c.values.Get(key); cached {
		c.hits++
	} else {
		c.misses++
	}
	return v, cached, c.stripe(key).lease
}

// Lookups returns how many calls of Get have found a value, and how many have not.
func (c *Cache[V]) Lookups() (hits, misses int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.hits, c.misses
}

// Keep stores a value that was read since the lease was given, unless the lease is void.
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
	c.shrink()
}

func (c *Cache[V]) shrink() {
	for c.total > c.limit {
		c.values.RemoveOldest()
	}
}

// Begin notes that the entry is about to be written or deleted, and drops its value;
// had says whether there was one. The caller calls End whether or not the write
// succeeds.
func (c *Cache[V]) Begin(key string) (had bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	s := c.stripe(key)
	s.lease++
	s.writing++
	return c.values.Remove(key)
}

// End notes that a write has ended. v, if it is not nil, was written successfully and
// is kept.
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

// Drop forgets the value at key: the entry was written, or the value is no longer valid.
func (c *Cache[V]) Drop(key string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.stripe(key).lease++
	c.values.Remove(key)
}
