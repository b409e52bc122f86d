// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package store

import "sync"

// cached holds one decoded entry. A value read before the entry was dropped is
// never kept: each drop starts a new generation, and keep takes the one that
// was current when the reading began.
type cached[T any] struct {
	mu         sync.Mutex
	generation uint64
	value      *T
}

func (c *cached[T]) get() (value *T, generation uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.value, c.generation
}

func (c *cached[T]) keep(value *T, generation uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if generation == c.generation {
		c.value = value
	}
}

func (c *cached[T]) drop() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.generation++
	c.value = nil
}
