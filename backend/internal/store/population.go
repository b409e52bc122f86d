// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package store

import (
	"context"
	"sync"
)

// population is how many tenants there are. They are counted once, and then
// followed; after a write whose effect is not known they are counted anew.
type population struct {
	mu      sync.Mutex
	known   bool
	n       int
	changes int // tells a count that something changed meanwhile
}

func (p *population) add(n int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.n += n
	p.changes++
}

func (p *population) forget() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.known = false
	p.changes++
}

func (p *population) get() (n, changes int, known bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.n, p.changes, p.known
}

// keep takes a count that began at changes, if nothing has changed since.
func (p *population) keep(n, changes int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.changes == changes {
		p.known, p.n = true, n
	}
}

// CountTenants returns how many tenants there are.
func (s *Store) CountTenants(ctx context.Context) (int, error) {
	n, changes, known := s.population.get()
	if known {
		return n, nil
	}
	ids, err := s.TenantIDs(ctx)
	if err != nil {
		return 0, err
	}
	s.population.keep(len(ids), changes)
	return len(ids), nil
}
