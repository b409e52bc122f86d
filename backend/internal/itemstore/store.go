// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package itemstore

import (
	"context"
	"strings"

	"golang.org/x/sync/semaphore"

	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/keyring"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/keystore"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/page"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/settings"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/storage"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/tenant"
)

// maxTries bounds the loops that look again after something changed under them.
// Each turn means that another operation got on, so few are ever needed.
const maxTries = 32

// Store keeps the items of all tenants of one mount. It is safe for concurrent use.
type Store struct {
	mount    *storage.Mount
	settings *settings.Store
	keys     *keystore.Store
	tenants  *tenant.Store

	pageLocks *pageLocks
	pages     *pageCache
	tables    *tables
	batches   batches
	headers   *semaphore.Weighted
}

// NewStore returns the items in m.
func NewStore(m *storage.Mount, s *settings.Store, k *keystore.Store, t *tenant.Store) *Store {
	return &Store{
		mount: m, settings: s, keys: k, tenants: t,
		pageLocks: newPageLocks(),
		pages:     newPageCache(cachedPageBytes),
		tables:    newTables(),
		headers:   semaphore.NewWeighted(headersInFlight),
	}
}

func (s *Store) lockPage(incarnation string, p page.Prefix) (release func()) {
	return s.pageLocks.lock(pageKey(incarnation, p))
}

// Invalidate forgets what is cached of the storage entry key, which another node
// has changed.
func (s *Store) Invalidate(key string) {
	if strings.HasPrefix(key, pagePrefix) {
		s.pages.drop(key)
		s.tables.drop(incarnationOfPage(key))
	}
}

// activeAEAD returns the version that seals pages of t now, and its key.
func (s *Store) activeAEAD(ctx context.Context, t *tenant.Record) (*keyring.Version, keyring.AEAD, error) {
	v := t.Keys.Active()
	a, err := s.keys.PageAEAD(ctx, t.Owner(), v)
	return v, a, err
}
