// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package store

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"sync"

	"github.com/fxamacker/cbor/v2"
	"github.com/google/uuid"
	lru "github.com/hashicorp/golang-lru/v2"

	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/keyring"
)

// What callers tell apart.
var (
	// ErrKeyGone reports that an entry's key is not in storage.
	ErrKeyGone = errors.New("key is not in storage")
	// ErrKeyDamaged reports a key entry that does not open.
	ErrKeyDamaged = errors.New("key entry does not open")
)

// openKeys bounds the opened keys held in memory; vault#5746 tells what an
// unbounded cache of keys does.
const openKeys = 8192

// wrappedKey is a key as it is stored. An entry is written once, under a random
// ID of its own: transit keeps all versions in one entry and meets the limit of
// an entry's size (vault#26309). Only a rotation of the mount's KEK writes it
// again: the same key, wrapped anew.
type wrappedKey struct {
	Format  uint8           `cbor:"1,keyasint"` // 1
	KEKID   string          `cbor:"2,keyasint"`
	KeyType keyring.KeyType `cbor:"3,keyasint"`
	Wrapped []byte          `cbor:"4,keyasint"`
}

const wrappedKeyFormat = 1

// keyCache holds opened keys by key ID. Its lock is held shared while a key is
// loaded and exclusively while one is destroyed, so that a destroyed key cannot
// come back into the cache from a read that began before.
type keyCache struct {
	loading sync.RWMutex
	opened  *lru.Cache[string, keyring.AEAD]
}

func newKeyCache() *keyCache {
	opened, err := lru.New[string, keyring.AEAD](openKeys)
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

// NewID returns a random ID: the prefix and a UUID.
func NewID(prefix string) (string, error) {
	id, err := uuid.NewRandom()
	if err != nil {
		return "", fmt.Errorf("making an ID: %w", err)
	}
	return prefix + id.String(), nil
}

// NewIncarnation returns a random incarnation.
func NewIncarnation() string {
	b := make([]byte, 16)
	_, _ = rand.Read(b) // never fails
	return hex.EncodeToString(b)
}

// CreateKey makes a random key for the place that b names, wraps it under the
// mount's KEK and stores it. The ID must be a fresh one: entries of keys are
// written once.
func (s *Store) CreateKey(ctx context.Context, b keyring.Binding) error {
	key := keyring.NewMaterial()
	defer clear(key)
	return s.ImportKey(ctx, b, key)
}

// ImportKey is CreateKey for a key that is given, which the caller clears.
func (s *Store) ImportKey(ctx context.Context, b keyring.Binding, key []byte) error {
	kek, release, err := s.currentKEK(ctx)
	if err != nil {
		return err
	}
	defer release()
	if err := s.putKey(ctx, kek, b, key); err != nil {
		return err
	}
	s.madeKey(b)
	return s.holdOpen(b, key)
}

// holdOpen keeps a key that was just stored open, since it is about to be used:
// else its first use would read it back. Whoever makes a key holds the tenant's
// lock exclusively, and so does who destroys one.
func (s *Store) holdOpen(b keyring.Binding, key []byte) error {
	if b.Purpose == keyring.PlacementKey {
		return nil // it seals nothing
	}
	a, err := keyring.NewAEAD(b.KeyType, key)
	if err != nil {
		return fmt.Errorf("%s: %w", b.KeyID, err)
	}
	s.keys.opened.Add(b.KeyID, s.counted(b, a))
	return nil
}

// DestroyKey deletes the entry of a key and forgets the opened key. The caller
// holds the tenant's lock exclusively and repeats it until it succeeds.
func (s *Store) DestroyKey(ctx context.Context, incarnation, keyID string) error {
	s.keys.loading.Lock()
	defer s.keys.loading.Unlock()
	s.keys.opened.Remove(keyID)
	return s.mount.Delete(ctx, wrappedKeyKey(incarnation, keyID))
}

// hasKey reports whether the entry of a key is in storage.
func (s *Store) hasKey(ctx context.Context, incarnation, keyID string) (bool, error) {
	value, err := s.mount.Get(ctx, wrappedKeyKey(incarnation, keyID))
	return value != nil, err
}

// pageAEAD opens the page key of a version. It fails with [ErrKeyGone].
func (s *Store) pageAEAD(ctx context.Context, o keyring.Owner, v *keyring.Version) (keyring.AEAD, error) {
	return s.aead(ctx, o.Binding(v.KeyID, v.KeyType, keyring.PageKey))
}

// OpenPageKeys opens the page keys of versions ahead of their use, as far as they
// open: who then needs one, and has one of few places in a pool, does not wait for
// storage in it. What does not open is told by its use.
func (s *Store) OpenPageKeys(ctx context.Context, o keyring.Owner, versions ...*keyring.Version) {
	for _, v := range versions {
		_, _ = s.pageAEAD(ctx, o, v)
	}
}

// aead opens the key at the place that b names. It fails with [ErrKeyGone].
func (s *Store) aead(ctx context.Context, b keyring.Binding) (keyring.AEAD, error) {
	if a, ok := s.keys.opened.Get(b.KeyID); ok {
		return a, nil
	}
	s.keys.loading.RLock()
	defer s.keys.loading.RUnlock()
	key, err := s.openKey(ctx, b)
	if err != nil {
		return nil, err
	}
	defer clear(key)
	a, err := keyring.NewAEAD(b.KeyType, key)
	if err != nil {
		return nil, fmt.Errorf("%s: %w: %w", b.KeyID, ErrKeyDamaged, err)
	}
	a = s.counted(b, a)
	// One that was just made stays: an external key may have been made anew, in place
	// of a hidden one that was read here before.
	s.keys.opened.ContainsOrAdd(b.KeyID, a)
	return a, nil
}

// CheckPageKey makes sure that the page key of a version opens, from storage and
// not from memory. It fails with one of the errors that KeyGone tells.
func (s *Store) CheckPageKey(ctx context.Context, o keyring.Owner, v *keyring.Version) error {
	key, err := s.openKey(ctx, o.Binding(v.KeyID, v.KeyType, keyring.PageKey))
	clear(key)
	return err
}

// openKey reads and unwraps a key. The caller clears it after use.
func (s *Store) openKey(ctx context.Context, b keyring.Binding) ([]byte, error) {
	gone := ""
	for {
		w, err := s.readKey(ctx, b.Incarnation, b.KeyID)
		if err != nil {
			return nil, err
		}
		if w == nil {
			return nil, fmt.Errorf("%s: %w", b.KeyID, ErrKeyGone)
		}
		kek, err := s.kek(ctx, w.KEKID)
		if errors.Is(err, ErrKeyGone) && gone != w.KEKID {
			gone = w.KEKID // the key may have been moved to another KEK since it was read
			continue
		}
		if err != nil {
			return nil, err
		}
		key, err := kek.Unwrap(ctx, w.Wrapped, b)
		if err != nil {
			return nil, fmt.Errorf("%s: %w: %w", b.KeyID, ErrKeyDamaged, err)
		}
		return key, nil
	}
}

// readKey reads the entry of a key, nil if none shows. It fails with
// [ErrKeyDamaged].
func (s *Store) readKey(ctx context.Context, incarnation, keyID string) (*wrappedKey, error) {
	value, err := s.mount.Get(ctx, wrappedKeyKey(incarnation, keyID))
	if err != nil {
		return nil, fmt.Errorf("reading key %s: %w", keyID, err)
	}
	if value == nil {
		return nil, nil
	}
	w := new(wrappedKey)
	if err := cbor.Unmarshal(value, w); err != nil || w.Format != wrappedKeyFormat {
		return nil, fmt.Errorf("%s: %w: malformed", keyID, ErrKeyDamaged)
	}
	return w, nil
}

// putKey wraps a key under kek and stores it at the place that b names. The
// caller holds the KEK's lock shared: see currentKEK.
func (s *Store) putKey(ctx context.Context, kek *keyring.KEK, b keyring.Binding, key []byte) error {
	wrapped, err := kek.Wrap(ctx, key, b)
	if err != nil {
		return err
	}
	value, err := cbor.Marshal(wrappedKey{wrappedKeyFormat, kek.ID, b.KeyType, wrapped})
	if err != nil {
		return fmt.Errorf("encoding a key entry: %w", err)
	}
	return s.mount.PutSealWrapped(ctx, wrappedKeyKey(b.Incarnation, b.KeyID), value)
}
