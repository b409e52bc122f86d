// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package itemstore

import (
	"context"
	"strings"
	"sync/atomic"

	"golang.org/x/sync/semaphore"

	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/jobs"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/keyring"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/keystore"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/page"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/pagedir"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/settings"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/storage"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/tenant"
)

// maxTries bounds the loops that look again after something changed under them.
// Each turn means that another operation got on, so few are ever needed.
const maxTries = 32

// maxCachedPages bounds how many pages are held in memory, whatever their sizes.
const maxCachedPages = 1 << 22

// cachedPage estimates the bytes that a sealed page takes in the cache.
func cachedPage(sealed []byte) int { return len(sealed) + 250 }

// Store keeps the items of all tenants of one mount. It is safe for concurrent use.
type Store struct {
	mount    *storage.Mount
	settings *settings.Store
	keys     *keystore.Store
	tenants  *tenant.Store

	pageLocks *pagedir.Locks
	// pages has sealed pages that requests have read, and deltas. To ask storage for a
	// page costs a plugin more than everything else that it does to read an item. A
	// rotation does not read through the cache: what decides whether a key may go is
	// what storage says.
	pages       *storage.Cache[[]byte]
	tables      *tables
	batches     jobs.Batches[*Op]
	reencrypted struct{ pages, items atomic.Int64 } // by Move
	headers     *semaphore.Weighted
}

// NewStore returns the items in m.
func NewStore(m *storage.Mount, s *settings.Store, k *keystore.Store, t *tenant.Store) *Store {
	return &Store{
		mount: m, settings: s, keys: k, tenants: t,
		pageLocks: pagedir.NewLocks(),
		pages:     storage.NewCache(maxCachedPages, settings.MinCacheBytes, cachedPage),
		tables:    newTables(),
		headers:   semaphore.NewWeighted(headersInFlight),
	}
}

// LimitMemory bounds the bytes that pages and directories of pages in memory may take.
func (s *Store) LimitMemory(pages, directories int) {
	s.pages.Limit(pages)
	s.tables.limitMemory(directories)
}

func (s *Store) lockPage(incarnation string, p page.Prefix) (release func()) {
	return s.pageLocks.Lock(pageKey(incarnation, p))
}

// Invalidate forgets what is cached of the storage entry key, which another node
// has changed.
func (s *Store) Invalidate(key string) {
	if strings.HasPrefix(key, pagePrefix) {
		s.pages.Drop(key)
		s.tables.drop(incarnationOfPage(key))
	}
}

// activeAEAD returns the version that seals pages of t now, and its key.
func (s *Store) activeAEAD(ctx context.Context, t *tenant.Record) (*keyring.Version, keyring.AEAD, error) {
	v := t.Keys.Active()
	a, err := s.keys.PageAEAD(ctx, t.Owner(), v)
	return v, a, err
}

// CacheLookups returns how many lookups of pages the cache has answered since the engine
// started, and how many it could not.
func (s *Store) CacheLookups() (hits, misses int64) { return s.pages.Lookups() }

// Reencrypted returns how many pages rotations have sealed anew since the engine started,
// and how many items were on them.
func (s *Store) Reencrypted() (pages, items int64) {
	return s.reencrypted.pages.Load(), s.reencrypted.items.Load()
}
