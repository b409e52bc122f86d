// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

// Package keystore keeps keys in a mount's storage: wrapped page, external and
// placement keys, the key-encryption keys (KEKs) that wrap them, and the number of messages that each aes256-gcm key has sealed.
//
//	kek/current                         the current KEK, and its latest rotation
//	kek/progress                        how far that rotation is
//	kek/keys/<kek_id>                   the mount's KEKs                 (seal-wrapped)
//	tenantkeks/<hh>/<incarnation>.<id>  tenants' own KEKs                (seal-wrapped)
//	keys/<incarnation>/<key_id>         page and placement keys          (seal-wrapped)
//	keys/<incarnation>/<key_id>.ext     external keys of versions        (seal-wrapped)
//	seals/<incarnation>/<key_id>        seals reserved by a version's keys
//
// Every key entry is written once, under a random ID. Only a rotation of the KEK
// writes one again: the same key, wrapped anew.
//
// # Locks
//
// The KEK's lock is held shared from reading which KEK is current until the key that it
// wraps is stored, and exclusively to make the first KEK or to switch to another. It
// comes after a tenant's lock. A caller that makes or destroys a key, or a KEK of a tenant's
// own, holds the tenant's lock exclusively.
//
// The lock of a KEK's gate comes after all of these, and none is taken under it but that
// of opened keys. A KEK under a provider is opened by [Store.Unlock], which no caller calls
// with a lock held: what needs a KEK that is not open fails with a [LockedError].
//
// # What it must never do
//
// Call a provider with a lock held. Use a key after the lease of the KEK above it.
// Put key material into an error. Let a destroyed key back into its cache. Grant a seal
// that no successful Put has reserved. Take a missing KEK for a missing key.
package keystore

import (
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/lease"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/ledger"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/provider"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/storage"
)

// Store keeps the keys of one mount. It is safe for concurrent use.
type Store struct {
	mount *storage.Mount
	now   func() time.Time

	providers *provider.Store
	ledger    *ledger.Ledger // nil: nothing is logged
	watch     ledger.Watch

	kekLock sync.RWMutex
	keys    *keyCache
	current *storage.Cache[*KEKRecord] // what wrapping has read of the mount's: see KEK
	keks    *storage.Cache[*openKEK]   // opened, by storage key
	gates   lease.Gates[gate]          // of KEKs under a provider
	under   sync.Map                   // the provider of each tenant's own KEK that was read, by storage key
	inVault atomic.Pointer[lease.Term] // of the KEKs in Vault's storage
	seals   *seals
}

// openKEKs bounds the opened KEKs held in memory: the current one, those that rotations
// have not finished with, and tenants' own, of which each is to be opened once in a lease.
const openKEKs = 1 << 17

// NewStore returns the keys in m. now is the clock by which they are dated. providers
// open the KEKs that are under one.
func NewStore(m *storage.Mount, now func() time.Time, providers *provider.Store) *Store {
	s := &Store{
		mount: m, now: now, providers: providers, keys: newKeyCache(), seals: newSeals(),
		keks:    storage.NewCache(openKEKs, openKEKs, func(*openKEK) int { return 1 }),
		current: storage.NewCache(1, 1, func(*KEKRecord) int { return 1 }),
	}
	s.inVault.Store(lease.Forever(now))
	return s
}

// endInVault ends the term of all KEKs in Vault's storage: one is under a provider now, and
// what was opened before must end with its lease.
func (s *Store) endInVault() {
	s.inVault.Swap(lease.Forever(s.now)).Finish()
	s.keys.dropOver()
}

// Invalidate forgets what is cached of the storage entry key, which another node
// has changed.
func (s *Store) Invalidate(key string) {
	if strings.HasPrefix(key, keyPrefix) {
		s.keys.drop()
	}
	if strings.HasPrefix(key, kekPrefix) || strings.HasPrefix(key, ownPrefix) {
		s.forgetKEK(key)
	}
	if key == kekCurrent {
		s.current.Drop(key)
		s.endInVault()
	}
}
