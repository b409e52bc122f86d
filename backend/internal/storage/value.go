// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package storage

import "sync"

// Value caches one decoded entry. A value read before the entry was dropped is
// never kept: each drop starts a new generation, and Keep takes the one that
// was current when the reading began. The zero Value is empty and ready for use.
type Value[T any] struct {
	mu         sync.Mutex
	generation uint64
	value      *T
}

// Get returns the cached value, nil if there is none, and the generation to keep
// it under once it has been read.
func (c *Value[T]) Get() (value *T, generation uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.value, c.generation
}

// Keep takes a value that was read since generation was current.
func (c *Value[T]) Keep(value *T, generation uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if generation == c.generation {
		c.value = value
	}
}

// Drop forgets the value: the entry was written, or is about to be.
func (c *Value[T]) Drop() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.generation++
	c.value = nil
}
