// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package backend

import (
	"context"
	"slices"
	"sync"
)

// pool bounds the pages in flight over all tenants. Its limit may change while
// it is in use. Who waits is served in the order of asking; since a rotation
// asks for one place at a time, rotations take turns.
type pool struct {
	limit func() int // at least 1

	mu      sync.Mutex
	taken   int
	waiting []chan struct{} // each closed when its place is given
}

func newPool(limit func() int) *pool { return &pool{limit: limit} }

// acquire waits for a place. It fails only with the context's error.
func (p *pool) acquire(ctx context.Context) error {
	place := p.request()
	select {
	case <-place:
		return nil
	case <-ctx.Done():
		if !p.giveUp(place) {
			p.release() // it was given meanwhile
		}
		return ctx.Err()
	}
}

// request asks for a place; the channel is closed when it is given. Who has to
// wait is woken by a release: there is one to come, since all places are taken.
func (p *pool) request() chan struct{} {
	limit := p.limit()
	place := make(chan struct{})
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.taken < limit && len(p.waiting) == 0 {
		p.taken++
		close(place)
	} else {
		p.waiting = append(p.waiting, place)
	}
	return place
}

// giveUp takes a waiter off the queue; false if its place has been given.
func (p *pool) giveUp(place chan struct{}) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	i := slices.Index(p.waiting, place)
	if i < 0 {
		return false
	}
	p.waiting = slices.Delete(p.waiting, i, i+1)
	return true
}

// release gives a place back, and as many as the limit now allows to waiters.
func (p *pool) release() {
	limit := p.limit()
	p.mu.Lock()
	defer p.mu.Unlock()
	p.taken--
	for p.taken < limit && len(p.waiting) > 0 {
		close(p.waiting[0])
		p.waiting = p.waiting[1:]
		p.taken++
	}
}

// empty reports whether no place is taken.
func (p *pool) empty() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.taken == 0
}
