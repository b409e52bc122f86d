// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package keystore

import (
	"sync"
	"sync/atomic"

	lru "github.com/hashicorp/golang-lru/v2"

	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/keyring"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/lease"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/settings"
)

// keyCache holds opened keys by key ID. Its lock is held shared while a key is
// loaded and exclusively while one is destroyed, so that a destroyed key cannot
// come back into the cache from a read that began before.
type keyCache struct {
	loading sync.RWMutex
	opened  *lru.Cache[string, openedKey]

	hits, misses atomic.Int64
}

// openedKey is a key that may be used for the term of the KEK above it.
type openedKey struct {
	keyring.AEAD
	term *lease.Term
}

// get returns an opened key whose term lasts.
func (c *keyCache) get(keyID string) (keyring.AEAD, bool) {
	k, found := c.opened.Get(keyID)
	if found && !k.term.Use() {
		c.dropIfOver(keyID)
		found = false
	}
	return k.AEAD, found
}

// dropIfOver forgets a key whose term has ended. It waits for those that are being loaded,
// so that none is forgotten but that one.
func (c *keyCache) dropIfOver(keyID string) {
	c.loading.Lock()
	defer c.loading.Unlock()
	if k, found := c.opened.Peek(keyID); found && k.term.Over() {
		c.opened.Remove(keyID)
	}
}

// dropOver forgets all keys whose term has ended.
func (c *keyCache) dropOver() {
	c.loading.Lock()
	defer c.loading.Unlock()
	for _, id := range c.opened.Keys() {
		if k, found := c.opened.Peek(id); found && k.term.Over() {
			c.opened.Remove(id)
		}
	}
}

// CacheLookups returns how many lookups of opened keys the cache has answered since the
// engine started, and how many it could not.
func (s *Store) CacheLookups() (hits, misses int64) { return s.keys.hits.Load(), s.keys.misses.Load() }

func newKeyCache() *keyCache {
	opened, err := lru.New[string, openedKey](settings.MinCacheBytes / openKeyBytes)
	if err != nil {
		panic(err) // only for a size that is not positive
	}
	return &keyCache{opened: opened}
}

func (c *keyCache) drop() {
	c.loading.Lock()
	defer c.loading.Unlock()
	c.opened.Purge()
}
