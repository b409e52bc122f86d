// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package itemstore

import (
	"sync"

	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/tenant"
)

// openTenants bounds how many directories of tenants that are not in use are held in
// memory. A directory takes some 150 bytes a page.
const openTenants = 1024

// tables holds what is in memory of the tenants in use and, bounded, of those
// used lately. One in use is never dropped: two directories of one tenant would
// each miss what the other is told.
type tables struct {
	mu    sync.Mutex
	open  map[string]*Table
	clock uint64
}

func newTables() *tables { return &tables{open: map[string]*Table{}} }

// table returns the table of t, and what releases it.
func (s *Store) table(t *tenant.Record) (tab *Table, release func()) {
	r := s.tables
	r.mu.Lock()
	defer r.mu.Unlock()
	tab = r.open[t.Incarnation]
	if tab == nil {
		tab = &Table{store: s, incarnation: t.Incarnation}
		r.open[t.Incarnation] = tab
	}
	tab.users++
	return tab, func() { r.release(tab) }
}

func (r *tables) release(tab *Table) {
	r.mu.Lock()
	defer r.mu.Unlock()
	tab.users--
	r.clock++
	tab.used = r.clock
	if len(r.open) > openTenants {
		r.evict()
	}
}

// evict drops the tenth of the entries that were not used for longest. It scans
// them all, but only once in so many releases.
func (r *tables) evict() {
	const tenth = openTenants / 10
	for inc, tab := range r.open {
		if tab.users == 0 && tab.used+openTenants-tenth < r.clock {
			clear(tab.placement)
			delete(r.open, inc)
		}
	}
}

// drop forgets the directory of an incarnation.
func (r *tables) drop(incarnation string) {
	r.mu.Lock()
	tab := r.open[incarnation]
	r.mu.Unlock()
	if tab != nil {
		tab.dir.drop()
	}
}

// forget drops what is in memory of an incarnation that is no more.
func (r *tables) forget(incarnation string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if tab := r.open[incarnation]; tab != nil {
		tab.dir.drop()
		tab.mu.Lock()
		clear(tab.placement)
		tab.placement = nil
		tab.mu.Unlock()
		delete(r.open, incarnation)
	}
}
