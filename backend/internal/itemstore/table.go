// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package itemstore

import (
	"context"
	"sync"

	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/item"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/keyring"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/keystore"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/page"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/tenant"
)

// openTenants bounds how many tenants' directories are held in memory while
// nobody uses them. A directory takes some 150 bytes a page.
const openTenants = 1024

// Table is what is held in memory of a tenant's incarnation.
type Table struct {
	incarnation string
	dir         directory

	loading sync.Mutex // one List at a time loads the directory

	mu        sync.Mutex
	placement []byte // the placement key, once read

	users int    // guarded by the registry's lock
	used  uint64 // when it was last released, in the registry's own count
}

// tables holds what is in memory of the tenants in use and, bounded, of those
// used lately. One in use is never dropped: two directories of one tenant would
// each miss what the other is told.
type tables struct {
	mu    sync.Mutex
	open  map[string]*Table
	clock uint64
}

func newTables() *tables { return &tables{open: map[string]*Table{}} }

// use returns what is in memory of an incarnation, and what releases it.
func (r *tables) use(incarnation string) (w *Table, release func()) {
	r.mu.Lock()
	defer r.mu.Unlock()
	w = r.open[incarnation]
	if w == nil {
		w = &Table{incarnation: incarnation}
		r.open[incarnation] = w
	}
	w.users++
	return w, func() { r.release(w) }
}

func (r *tables) release(w *Table) {
	r.mu.Lock()
	defer r.mu.Unlock()
	w.users--
	r.clock++
	w.used = r.clock
	if len(r.open) > openTenants {
		r.evict()
	}
}

// evict drops the tenth of the entries that were not used for longest. It scans
// them all, but only once in so many releases.
func (r *tables) evict() {
	const tenth = openTenants / 10
	for inc, w := range r.open {
		if w.users == 0 && w.used+openTenants-tenth < r.clock {
			clear(w.placement)
			delete(r.open, inc)
		}
	}
}

// drop forgets the directory of an incarnation.
func (r *tables) drop(incarnation string) {
	r.mu.Lock()
	w := r.open[incarnation]
	r.mu.Unlock()
	if w != nil {
		w.dir.drop()
	}
}

// hash places an item of t.
func (s *Store) hash(ctx context.Context, t *tenant.Record, w *Table, k item.Kind, name string) (h page.Hash, err error) {
	err = s.withPlacementKey(ctx, t, w, func(key []byte) { h = page.HashOf(key, k, name) })
	return h, err
}

// withPlacementKey calls f with the placement key of t, which f does not keep.
func (s *Store) withPlacementKey(ctx context.Context, t *tenant.Record, w *Table, f func(key []byte)) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.placement == nil {
		key, err := s.keys.OpenKey(ctx, t.Owner().Binding(t.PlacementKeyID, "", keyring.PlacementKey))
		if keystore.IsGone(err) {
			if _, gone := s.sameTenant(ctx, t); gone != nil {
				return gone
			}
		}
		if err != nil {
			return err
		}
		w.placement = key
	}
	f(w.placement)
	return nil
}

// Fingerprint tells an imported key of t when it comes again.
func (s *Store) Fingerprint(ctx context.Context, t *tenant.Record, key []byte) (fingerprint string, err error) {
	w, release := s.tables.use(t.Incarnation)
	defer release()
	err = s.withPlacementKey(ctx, t, w, func(placement []byte) { fingerprint = keyring.Fingerprint(placement, key) })
	return fingerprint, err
}
