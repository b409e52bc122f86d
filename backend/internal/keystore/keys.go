// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package keystore

import (
	"context"
	"errors"
	"fmt"

	"github.com/fxamacker/cbor/v2"

	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/keyring"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/lease"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/storage"
)

// What callers tell apart.
var (
	// ErrGone reports that an entry's key is not in storage.
	ErrGone = errors.New("key is not in storage")
	// ErrDamaged reports a key entry that does not open.
	ErrDamaged = errors.New("key entry does not open")
)

// errNoEntry is [ErrGone] of the key that is asked for, and not of its KEK.
var errNoEntry = fmt.Errorf("%w", ErrGone)

// openKeyBytes is about what an opened key takes in memory. Their number is bounded;
// vault#5746 tells what an unbounded cache of keys does.
const openKeyBytes = 1300

// LimitMemory bounds the bytes that opened keys may take.
func (s *Store) LimitMemory(bytes int) { s.keys.opened.Resize(max(bytes/openKeyBytes, 1)) }

// WrappedKey is a key as it is stored. An entry is written once, under a random
// ID of its own: transit keeps all versions in one entry and meets the limit of
// an entry's size (vault#26309). Only a rotation of the KEK writes it again: the same
// key, wrapped anew. The KEK's ID says whose that is: see [PlaceOf].
type WrappedKey struct {
	Format  uint8           `cbor:"1,keyasint"` // 1
	KEKID   string          `cbor:"2,keyasint"`
	KeyType keyring.KeyType `cbor:"3,keyasint"`
	Wrapped []byte          `cbor:"4,keyasint"`
}

const wrappedKeyFormat = 1

// CreateKey makes a random key for the place that b names, wraps it and stores it: under
// the tenant's own KEK of that ID, or without one under the mount's. The key's ID must be a
// fresh one: entries of keys are written once.
func (s *Store) CreateKey(ctx context.Context, ownKEK string, b keyring.Binding) error {
	key := keyring.NewMaterial()
	defer clear(key)
	return s.ImportKey(ctx, ownKEK, b, key)
}

// ImportKey is CreateKey for a key that is given, which the caller clears.
func (s *Store) ImportKey(ctx context.Context, ownKEK string, b keyring.Binding, key []byte) error {
	kek, release, err := s.kekOf(ctx, b.Owner, ownKEK)
	if err != nil {
		return err
	}
	defer release()
	if err := s.PutKey(ctx, kek.KEK, b, key); err != nil {
		return err
	}
	s.madeKey(b)
	return s.holdOpen(b, key, kek.term)
}

// holdOpen keeps a key that was just stored open, because it is about to be used:
// otherwise its first use would read it back. A caller that makes or destroys a key
// holds the tenant's lock exclusively.
func (s *Store) holdOpen(b keyring.Binding, key []byte, term *lease.Term) error {
	if b.Purpose == keyring.PlacementKey {
		return nil // it seals nothing
	}
	a, err := keyring.NewAEAD(b.KeyType, key)
	if err != nil {
		return fmt.Errorf("%s: %w", b.KeyID, err)
	}
	s.keys.opened.Add(b.KeyID, openedKey{s.counted(b, a), term})
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

// PageAEAD opens the page key of a version. It fails with [ErrGone].
func (s *Store) PageAEAD(ctx context.Context, o keyring.Owner, v *keyring.Version) (keyring.AEAD, error) {
	return s.aead(ctx, o.Binding(v.KeyID, v.KeyType, keyring.PageKey))
}

// OpenPageKeys warms the cache with the page keys of versions. A worker that holds one
// of few places then does not wait for storage. Errors are ignored: the first use
// reports them.
func (s *Store) OpenPageKeys(ctx context.Context, o keyring.Owner, versions ...*keyring.Version) {
	for _, v := range versions {
		_, _ = s.PageAEAD(ctx, o, v)
	}
}

// aead opens the key at the place that b names. It fails with [ErrGone].
func (s *Store) aead(ctx context.Context, b keyring.Binding) (keyring.AEAD, error) {
	if a, ok := s.keys.get(b.KeyID); ok {
		s.keys.hits.Add(1)
		return a, nil
	}
	s.keys.misses.Add(1)
	s.keys.loading.RLock()
	defer s.keys.loading.RUnlock()
	key, term, err := s.OpenKeyFor(ctx, b)
	if err != nil {
		return nil, err
	}
	defer clear(key)
	a, err := keyring.NewAEAD(b.KeyType, key)
	if err != nil {
		return nil, fmt.Errorf("%s: %w: %w", b.KeyID, ErrDamaged, err)
	}
	a = s.counted(b, a)
	// A key that was just made stays: an external key may have been made in place of
	// one that Get did not show then and that was read here before.
	s.keys.opened.ContainsOrAdd(b.KeyID, openedKey{a, term})
	return a, nil
}

// CheckPageKey makes sure that the page key of a version opens, from storage and not
// from memory. It fails with an error for which CannotOpen is true.
func (s *Store) CheckPageKey(ctx context.Context, o keyring.Owner, v *keyring.Version) error {
	key, err := s.OpenKey(ctx, o.Binding(v.KeyID, v.KeyType, keyring.PageKey))
	clear(key)
	return err
}

// OpenKey reads and unwraps a key. The caller clears it after use. It fails with
// [ErrGone] if the key or its KEK is not in storage, with [ErrDamaged], and with a
// [LockedError].
func (s *Store) OpenKey(ctx context.Context, b keyring.Binding) ([]byte, error) {
	key, _, err := s.OpenKeyFor(ctx, b)
	return key, err
}

// OpenKeyFor is OpenKey for a caller that keeps the key: it uses it only while the term
// lasts.
func (s *Store) OpenKeyFor(ctx context.Context, b keyring.Binding) ([]byte, *lease.Term, error) {
	gone := ""
	for {
		w, err := s.ReadKey(ctx, b.Incarnation, b.KeyID)
		if err != nil {
			return nil, nil, err
		}
		if w == nil {
			return nil, nil, fmt.Errorf("%s: %w", b.KeyID, errNoEntry)
		}
		kek, err := s.openKEK(ctx, PlaceOf(b.Owner, w.KEKID))
		if errors.Is(err, ErrGone) && gone != w.KEKID {
			gone = w.KEKID // the key may have been moved to another KEK since it was read
			continue
		}
		if err != nil {
			return nil, nil, err
		}
		key, err := kek.Unwrap(ctx, w.Wrapped, b)
		if err != nil {
			return nil, nil, fmt.Errorf("%s: %w: %w", b.KeyID, ErrDamaged, err)
		}
		return key, kek.term, nil
	}
}

// ReadKey reads the entry of a key, nil if none shows. It fails with
// [ErrDamaged].
func (s *Store) ReadKey(ctx context.Context, incarnation, keyID string) (*WrappedKey, error) {
	value, err := s.mount.Get(ctx, wrappedKeyKey(incarnation, keyID))
	if storage.IsDamaged(err) {
		return nil, fmt.Errorf("%s: %w: %w", keyID, ErrDamaged, err)
	}
	if err != nil {
		return nil, fmt.Errorf("reading key %s: %w", keyID, err)
	}
	if value == nil {
		return nil, nil
	}
	w := new(WrappedKey)
	if err := cbor.Unmarshal(value, w); err != nil || w.Format != wrappedKeyFormat {
		return nil, fmt.Errorf("%s: %w: malformed", keyID, ErrDamaged)
	}
	return w, nil
}

// PutKey wraps a key under kek and stores it at the place that b names. The
// caller holds the KEK's lock shared: see CurrentKEK.
func (s *Store) PutKey(ctx context.Context, kek *keyring.KEK, b keyring.Binding, key []byte) error {
	wrapped, err := kek.Wrap(ctx, key, b)
	if err != nil {
		return err
	}
	return s.PutAsRead(ctx, b.Incarnation, b.KeyID, &WrappedKey{wrappedKeyFormat, kek.ID, b.KeyType, wrapped})
}

// PutAsRead stores the entry of a key as it was read. After that storage holds what Get
// shows, and not another entry, whose Put was reported as failed.
func (s *Store) PutAsRead(ctx context.Context, incarnation, keyID string, w *WrappedKey) error {
	value, err := cbor.Marshal(w)
	if err != nil {
		return fmt.Errorf("encoding a key entry: %w", err)
	}
	return s.mount.PutSealWrapped(ctx, wrappedKeyKey(incarnation, keyID), value)
}

// CannotOpen reports whether err says that a page's key does not open: it is missing,
// damaged, destroyed, or of a version that the record does not know. Mostly the page or
// its tenant's record was rewritten after it was read, and reading both again helps;
// otherwise the key or its entry is damaged.
func CannotOpen(err error) bool {
	return errors.Is(err, ErrGone) || errors.Is(err, ErrDamaged) ||
		errors.Is(err, keyring.ErrNoVersion) || errors.Is(err, keyring.ErrVersionDestroyed)
}

// List lists the IDs of all keys of an incarnation, also of those that its record does
// not name.
func (s *Store) List(ctx context.Context, incarnation string) ([]string, error) {
	return s.mount.List(ctx, keysOf(incarnation))
}

// DestroyAllKeys deletes the entries of all keys of an incarnation, also of those that
// its record does not name, and of KEKs of its own.
func (s *Store) DestroyAllKeys(ctx context.Context, incarnation string) error {
	ids, err := s.List(ctx, incarnation)
	if err != nil {
		return err
	}
	for _, id := range ids {
		if err := ctx.Err(); err != nil {
			return err // what is left comes after the restart
		}
		if err := s.DestroyKey(ctx, incarnation, id); err != nil {
			return err
		}
	}
	return s.DestroyOwnKEKs(ctx, incarnation, "")
}
