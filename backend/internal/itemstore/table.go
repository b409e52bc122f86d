// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package itemstore

import (
	"context"
	"sync"

	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/item"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/jobs"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/keyring"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/keystore"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/lease"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/page"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/pagedir"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/tenant"
)

// Table is the extendible hash of one incarnation of a tenant: which pages it has
// and, in memory, what is known of them. Its methods take the tenant's record of
// the request at hand, which says which keys seal and open.
type Table struct {
	store       *Store
	incarnation string
	dir         pagedir.Directory

	loading  sync.Mutex    // one List at a time loads the directory
	counting chan struct{} // holds one: one caller at a time reads what is not known
	bulkTurn chan struct{} // holds one: see Write
	bulk     jobs.Batches[*bulkWrite]

	mu        sync.Mutex
	placement []byte      // the placement key, once read
	term      *lease.Term // how long that may be used

	users int    // guarded by the lock of tables
	used  uint64 // when it was last released, by the clock of tables
	bytes int    // that it took then
}

// hash places an item of t.
func (tab *Table) hash(ctx context.Context, t *tenant.Record, k item.Kind, name string) (h page.Hash, err error) {
	if h, found := tab.hashOnOnlyPage(ctx, t, k, name); found {
		return h, nil
	}
	err = tab.withPlacementKey(ctx, t, func(key []byte) { h = page.HashOf(key, k, name) })
	return h, err
}

// comparedNames bounds the items of a page whose names are compared to find one.
const comparedNames = 32

// hashOnOnlyPage finds the hash of an item beside it on its page, by the item's name, and
// spares reading the placement key. It looks only while that key is not in memory, and only
// if the tenant has a single page: then that is where the item is. A hash never changes, so
// one from a page that was replaced meanwhile is right, too. What fails here, fails again
// where the page is used.
func (tab *Table) hashOnOnlyPage(ctx context.Context, t *tenant.Record, k item.Kind, name string) (h page.Hash, found bool) {
	tab.mu.Lock()
	known := tab.placement != nil && !tab.term.Over()
	tab.mu.Unlock()
	if known || tab.loadDirectory(ctx) != nil || !tab.dir.HasOnlyRoot() {
		return 0, false
	}
	root, err := tab.openPageAt(ctx, t, "")
	if err != nil || root == nil || len(root.Slots) > comparedNames {
		return 0, false
	}
	return root.Slots.HashOf(k, name)
}

// withPlacementKey calls f with the placement key of t, which f does not keep.
func (tab *Table) withPlacementKey(ctx context.Context, t *tenant.Record, f func(key []byte)) error {
	tab.mu.Lock()
	defer tab.mu.Unlock()
	if tab.placement == nil || !tab.term.Use() {
		key, term, err := tab.store.keys.OpenKeyFor(ctx, t.Owner().Binding(t.PlacementKeyID, "", keyring.PlacementKey))
		if keystore.CannotOpen(err) {
			if _, gone := tab.store.sameTenant(ctx, t); gone != nil {
				return gone
			}
		}
		if err != nil {
			return err
		}
		clear(tab.placement)
		tab.placement, tab.term = key, term
	}
	f(tab.placement)
	return nil
}

// ReopenKey forgets the placement key of an incarnation: it has moved beneath another KEK,
// with whose lease it is to end.
func (s *Store) ReopenKey(incarnation string) {
	s.tables.mu.Lock()
	tab := s.tables.open[incarnation]
	s.tables.mu.Unlock()
	if tab != nil {
		tab.forgetPlacement()
	}
}

func (tab *Table) forgetPlacement() {
	tab.mu.Lock()
	defer tab.mu.Unlock()
	clear(tab.placement)
	tab.placement = nil
}

// Fingerprint identifies an imported key of t, so that it is recognized when it is
// imported again. It is keyed by the placement key, which the tenant's table holds.
func (s *Store) Fingerprint(ctx context.Context, t *tenant.Record, key []byte) (fingerprint string, err error) {
	tab, release := s.table(t)
	defer release()
	err = tab.withPlacementKey(ctx, t, func(placement []byte) { fingerprint = keyring.Fingerprint(placement, key) })
	return fingerprint, err
}
