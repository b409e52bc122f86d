// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package tenant

import (
	"context"
	"errors"
	"fmt"
	"path"
	"strings"

	"github.com/hashicorp/vault/sdk/helper/jsonutil"
	"github.com/hashicorp/vault/sdk/helper/locksutil"

	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/keyring"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/ledger"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/settings"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/storage"
)

// What callers tell apart.
var (
	ErrNotFound = errors.New("tenant not found")
	ErrDeleting = errors.New("tenant is being deleted")
)

// maxCachedRecords bounds how many records are held in memory, whatever their sizes.
const maxCachedRecords = 1 << 22

// Store keeps the tenants' records of one mount, with their history and
// tombstones. It is safe for concurrent use.
type Store struct {
	mount *storage.Mount

	locks   []*locksutil.LockEntry
	records *storage.Cache[*Record] // decoded; a caller that changes one changes a clone
	list    list
	// tombstones lists the IDs of tenants that were shredded.
	tombstones list
	watch      func(tenantID string, t *Record, err error)
	ledger     *ledger.Ledger // nil: events are carried and not logged
}

// NewStore returns the tenants in m.
func NewStore(m *storage.Mount) *Store {
	return &Store{
		mount: m, locks: locksutil.CreateLocks(), records: storage.NewCache(maxCachedRecords, settings.MinCacheBytes, (*Record).memory),
		watch: func(string, *Record, error) {},
	}
}

// LimitMemory bounds the bytes that records in memory may take.
func (s *Store) LimitMemory(bytes int) { s.records.Limit(bytes) }

// Invalidate forgets what is cached of the storage entry key, which another node
// has changed.
func (s *Store) Invalidate(key string) {
	switch {
	case strings.HasPrefix(key, prefix):
		s.records.Drop(path.Base(key))
		s.note(path.Base(key), nil, errElsewhere)
	case strings.HasPrefix(key, tombstonePrefix):
		id, _, _ := strings.Cut(path.Base(key), ".")
		s.tombstones.note(id, false, errElsewhere)
	}
}

// Damaged notes that the storage entry key cannot be read any more.
func (s *Store) Damaged(key string, err error) {
	if strings.HasPrefix(key, prefix) && !strings.HasSuffix(key, "/") {
		s.watch(path.Base(key), nil, err)
	}
}

// Read reads the record of a tenant, which is shared: to change it, clone it.
// It fails with [ErrNotFound].
func (s *Store) Read(ctx context.Context, tenantID string) (*Record, error) {
	t, cached, lease := s.records.Get(tenantID)
	if cached {
		return t, nil
	}
	t, err := s.ReadStored(ctx, tenantID)
	if err != nil {
		return nil, err
	}
	s.records.Keep(tenantID, t, lease)
	return t, nil
}

// CacheLookups returns how many lookups of records the cache has answered since the
// engine started, and how many it could not.
func (s *Store) CacheLookups() (hits, misses int64) { return s.records.Lookups() }

// Peek is Read for a caller that looks at many tenants: what it reads from storage takes
// no place of a record in use.
func (s *Store) Peek(ctx context.Context, tenantID string) (*Record, error) {
	if t, cached, _ := s.records.Get(tenantID); cached {
		return t, nil
	}
	return s.ReadStored(ctx, tenantID)
}

// ErrDamaged reports a record that is there and cannot be used.
var ErrDamaged = errors.New("the tenant's record is damaged")

// ReadStored is Read, from storage, and keeps nothing in memory.
func (s *Store) ReadStored(ctx context.Context, tenantID string) (*Record, error) {
	t := &Record{Campaign: noCampaign}
	value, err := s.mount.Get(ctx, recordKey(tenantID))
	if storage.IsDamaged(err) {
		return nil, fmt.Errorf("%w: that of tenant %s: %w", ErrDamaged, tenantID, err)
	}
	if err != nil {
		return nil, fmt.Errorf("reading %s: %w", recordKey(tenantID), err)
	}
	if value == nil {
		return nil, ErrNotFound
	}
	if err := jsonutil.DecodeJSON(value, t); err != nil {
		return nil, fmt.Errorf("%w: decoding %s: %w", ErrDamaged, recordKey(tenantID), err)
	}
	if t.ID != tenantID {
		// The record leads to keys and pages: one that was moved here would open
		// another tenant's data under this one's name.
		return nil, fmt.Errorf("%w: that of tenant %s belongs to another tenant", ErrDamaged, tenantID)
	}
	if t.State == Active && t.Keys.Match(func(v *keyring.Version) bool { return v.State == keyring.Active }) == nil {
		return nil, fmt.Errorf("%w: that of tenant %s has no active version", ErrDamaged, tenantID)
	}
	t.encoded = len(value)
	t.Named = t.Named || holdsNames(value)
	t.upgrade()
	return t, nil
}

// Refresh is Read, from storage: the cached record is dropped first, in case storage
// has come to show another.
func (s *Store) Refresh(ctx context.Context, tenantID string) (*Record, error) {
	s.records.Drop(tenantID)
	return s.ReadStored(ctx, tenantID)
}

// Active reads the record of a tenant that can be used. It fails with
// [ErrNotFound] or [ErrDeleting].
func (s *Store) Active(ctx context.Context, tenantID string) (*Record, error) {
	t, err := s.Read(ctx, tenantID)
	if err == nil {
		err = t.Usable()
	}
	if err != nil {
		return nil, err
	}
	return t, nil
}
