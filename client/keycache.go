// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package client

import (
	"container/list"
	"sync"
	"sync/atomic"
	"time"
)

// sealing is the flight that brings the next key to seal with. No ciphertext has
// this text.
const sealing = ""

// keyCache holds opened data keys until their ends, the least recently used
// going first when there are too many, and the one that seals.
type keyCache struct {
	now     clock
	entries int

	seals atomic.Pointer[dataKey]

	mu      sync.Mutex
	opened  map[string]*list.Element // of *dataKey, by text
	recent  *list.List               // most recently used first
	flights map[string]*flight       // by text, or sealing
	sweeper *time.Timer              // nil: nothing is held
	sweepAt time.Duration            // when it runs, by the monotonic clock
	closed  bool
}

// flight is a key on its way, for all who wait for it.
type flight struct {
	done chan struct{}
	key  *dataKey
	err  error
}

func newKeyCache(now clock, entries int) *keyCache {
	return &keyCache{
		now: now, entries: entries,
		opened: map[string]*list.Element{}, recent: list.New(), flights: map[string]*flight{},
	}
}

// sealingKey is the key that seals, nil if there is none or it has ended.
func (c *keyCache) sealingKey() *dataKey {
	k := c.seals.Load()
	if k == nil || k.end.reached(c.now()) {
		return nil
	}
	return k
}

// join finds a key, or the flight that brings it. If it is in neither, mine is
// true: the caller has to land the flight.
func (c *keyCache) join(text string) (k *dataKey, f *flight, mine bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if k = c.lookup(text); k != nil {
		return k, nil, false
	}
	f = c.flights[text]
	if f != nil {
		return nil, f, false
	}
	f = &flight{done: make(chan struct{})}
	if c.closed {
		f.err = ErrClosed
		close(f.done)
		return nil, f, false
	}
	c.flights[text] = f
	return nil, f, true
}

// kept is the opened key of a text, nil if it is not kept.
func (c *keyCache) kept(text string) *dataKey {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.lookup(text)
}

func (c *keyCache) lookup(text string) *dataKey {
	if k := c.sealingKey(); k != nil && (text == sealing || text == k.text) {
		return k
	}
	e := c.opened[text]
	if e == nil {
		return nil
	}
	k := e.Value.(*dataKey)
	if k.end.reached(c.now()) {
		c.drop(e)
		return nil
	}
	c.recent.MoveToFront(e)
	return k
}

// land ends a flight. Its key is kept unless the cache was closed or emptied in
// between, or the key has ended: then only those who waited use it.
func (c *keyCache) land(text string, f *flight, k *dataKey, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	f.key, f.err = k, err
	if c.closed {
		f.key, f.err = nil, ErrClosed
	} else if c.flights[text] == f {
		delete(c.flights, text)
		if err == nil && !k.end.reached(c.now()) {
			c.keep(k)
			if text == sealing {
				c.seals.Store(k)
			}
		}
	}
	close(f.done)
}

func (c *keyCache) keep(k *dataKey) {
	if old := c.opened[k.text]; old != nil {
		c.drop(old)
	}
	c.opened[k.text] = c.recent.PushFront(k)
	for c.recent.Len() > c.entries {
		c.drop(c.recent.Back())
	}
	c.schedule(k)
}

func (c *keyCache) drop(e *list.Element) {
	k := c.recent.Remove(e).(*dataKey)
	delete(c.opened, k.text)
}

// schedule lets the sweeper run at the end of k at the latest, so that k is dropped
// then even if nobody asks for it again.
func (c *keyCache) schedule(k *dataKey) {
	now := c.now()
	wait := min(k.end.monotonic-now.monotonic, k.end.wall.Sub(now.wall))
	at := now.monotonic + max(wait, time.Millisecond)
	if c.sweeper != nil {
		if c.sweepAt <= at {
			return
		}
		c.sweeper.Stop()
	}
	c.sweepAt = at
	c.sweeper = time.AfterFunc(at-now.monotonic, c.sweep)
}

// sweep drops the keys that have ended.
func (c *keyCache) sweep() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.sweeper = nil
	now := c.now()
	for e := c.recent.Front(); e != nil; {
		next := e.Next()
		k := e.Value.(*dataKey)
		if k.end.reached(now) {
			c.drop(e)
		} else {
			c.schedule(k)
		}
		e = next
	}
	if k := c.seals.Load(); k == nil {
		return
	} else if k.end.reached(now) {
		c.seals.CompareAndSwap(k, nil)
	} else {
		c.schedule(k)
	}
}

// retire takes a key out of use for sealing; what it sealed still opens.
func (c *keyCache) retire(k *dataKey) { c.seals.CompareAndSwap(k, nil) }

// empty drops all keys, those on their way included.
func (c *keyCache) empty(closing bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.closed = c.closed || closing
	clear(c.opened)
	c.recent.Init()
	clear(c.flights) // those who wait get theirs, and nobody else does
	c.seals.Store(nil)
	if c.sweeper != nil {
		c.sweeper.Stop()
		c.sweeper = nil
	}
}
