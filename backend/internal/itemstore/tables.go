// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package itemstore

import (
	"cmp"
	"slices"
	"sync"

	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/jobs"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/settings"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/tenant"
)

// What a table and each page in its directory take in memory, about.
const (
	tableBytes          = 400
	directoryEntryBytes = 120
)

// tables holds what is in memory of the tenants in use and, bounded, of those
// used lately. One in use is never dropped: two directories of one tenant would
// each miss what the other is told.
type tables struct {
	mu    sync.Mutex
	open  map[string]*Table
	clock uint64
	bytes int // that the open ones took when they were last released
	limit int
}

func newTables() *tables { return &tables{open: map[string]*Table{}, limit: settings.MinCacheBytes} }

func (r *tables) limitMemory(bytes int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.limit = bytes
	r.evict()
}

// table returns the table of t, and what releases it.
func (s *Store) table(t *tenant.Record) (tab *Table, release func()) {
	r := s.tables
	r.mu.Lock()
	defer r.mu.Unlock()
	tab = r.open[t.Incarnation]
	if tab == nil {
		tab = &Table{store: s, incarnation: t.Incarnation, counting: make(chan struct{}, 1), bulkTurn: make(chan struct{}, 1), bulk: jobs.Batches[*bulkWrite]{Most: joinedBulk}}
		r.open[t.Incarnation] = tab
	}
	tab.users++
	return tab, func() { r.release(tab) }
}

func (r *tables) release(tab *Table) {
	bytes := tableBytes + directoryEntryBytes*tab.dir.Size()
	r.mu.Lock()
	defer r.mu.Unlock()
	tab.users--
	r.clock++
	tab.used = r.clock
	if r.open[tab.incarnation] == tab {
		r.bytes += bytes - tab.bytes
		tab.bytes = bytes
		r.evict()
	}
}

// evict drops the least recently used idle tables, if all of them exceed the limit, until
// they take nine tenths of it. It sorts all idle tables, but not again before the last tenth
// has filled up. r.mu is held, so no idle table comes into use meanwhile.
func (r *tables) evict() {
	if r.bytes <= r.limit {
		return
	}
	idle := make([]*Table, 0, len(r.open))
	for _, tab := range r.open {
		if tab.users == 0 {
			idle = append(idle, tab)
		}
	}
	slices.SortFunc(idle, func(a, b *Table) int { return cmp.Compare(a.used, b.used) })
	for _, tab := range idle {
		if r.bytes <= r.limit/10*9 {
			return
		}
		tab.forgetPlacement() // ReopenKey may have the table without being one of its users
		r.remove(tab)
	}
}

func (r *tables) remove(tab *Table) {
	r.bytes -= tab.bytes
	delete(r.open, tab.incarnation)
}

// drop forgets the directory of an incarnation.
func (r *tables) drop(incarnation string) {
	r.mu.Lock()
	tab := r.open[incarnation]
	r.mu.Unlock()
	if tab != nil {
		tab.dir.Drop()
	}
}

// forget drops what is in memory of an incarnation that is no more.
func (r *tables) forget(incarnation string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if tab := r.open[incarnation]; tab != nil {
		tab.dir.Drop()
		tab.forgetPlacement()
		r.remove(tab)
	}
}
