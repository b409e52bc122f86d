// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package store

import (
	"context"
	"path"
	"strings"
	"sync"

	"github.com/hashicorp/vault/sdk/helper/locksutil"
	"golang.org/x/sync/semaphore"

	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/keyring"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/storage"
)

// maxTries bounds the loops that look again after something changed under them.
// Each turn means that another operation got on, so few are ever needed.
const maxTries = 32

// Store keeps tenants, keys, pages and settings in one mount's storage.
type Store struct {
	mount *storage.Mount
	orgID string // what org_id is while nothing else is configured

	tenantLocks  []*locksutil.LockEntry
	pageLocks    *pageLocks
	kekLock      sync.RWMutex // see keks.go
	wrappingLock sync.Mutex   // covers making the wrapping key
	configLock   sync.Mutex   // covers read-modify-write of the two settings entries

	floors floors

	roll     roll
	agenda   agenda
	config   storage.Value[Config]
	settings storage.Value[RotationSettings]
	keys     *keyCache
	seals    *seals
	records  *recordCache
	pages    *pageCache
	tenants  *registry
	batches  batches
	headers  *semaphore.Weighted
}

// New returns a Store over storage. defaultOrgID is the organization's ID until
// one is configured.
func New(mount *storage.Mount, defaultOrgID string) *Store {
	return &Store{
		mount:       mount,
		orgID:       defaultOrgID,
		tenantLocks: locksutil.CreateLocks(),
		pageLocks:   newPageLocks(),
		keys:        newKeyCache(),
		seals:       newSeals(),
		records:     newRecordCache(),
		pages:       newPageCache(cachedPageBytes),
		tenants:     newRegistry(),
		headers:     semaphore.NewWeighted(headersInFlight),
	}
}

// Shared takes the tenant's lock shared and returns what releases it. Other
// tenants may share the same lock: hold one at a time.
func (s *Store) Shared(tenantID string) (release func()) {
	l := locksutil.LockForKey(s.tenantLocks, tenantID)
	l.RLock()
	return l.RUnlock
}

// Exclusive takes the tenant's lock exclusively and returns what releases it.
func (s *Store) Exclusive(tenantID string) (release func()) {
	l := locksutil.LockForKey(s.tenantLocks, tenantID)
	l.Lock()
	return l.Unlock
}

func (s *Store) lockPage(incarnation string, p Place) (release func()) {
	return s.pageLocks.lock(pageKey(incarnation, p))
}

// Invalidate forgets what is cached of the storage entry key, which another
// node has changed.
func (s *Store) Invalidate(_ context.Context, key string) {
	switch {
	case key == configKey:
		s.config.Drop()
	case key == settingsKey:
		s.settings.Drop()
	case strings.HasPrefix(key, tenantPrefix):
		s.records.drop(path.Base(key))
		s.roll.forget(path.Base(key))
	case strings.HasPrefix(key, schedulePrefix):
		s.floors.drop()
		s.agenda.clear()
	case strings.HasPrefix(key, pagePrefix):
		s.pages.drop(key)
		s.tenants.drop(incarnationOfPage(key))
	case strings.HasPrefix(key, keyPrefix):
		s.keys.drop()
	}
}

// activeAEAD returns the version that seals pages of t now, and its key.
func (s *Store) activeAEAD(ctx context.Context, t *Tenant) (*keyring.Version, keyring.AEAD, error) {
	v := t.Keys.Active()
	a, err := s.pageAEAD(ctx, t.Owner(), v)
	return v, a, err
}
