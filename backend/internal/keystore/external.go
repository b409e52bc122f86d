// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package keystore

import (
	"context"
	"errors"
	"strings"

	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/keyring"
)

// ExternalSuffix makes the ID of a version's external key out of its key ID.
const ExternalSuffix = ".ext"

// ErrNoExternalKey reports that no caller has encrypted under a version.
var ErrNoExternalKey = errors.New("the version has no external key")

func externalID(keyID string) string { return keyID + ExternalSuffix }

// versionKeyID is the key ID of the version whose page or external key keyID is.
func versionKeyID(keyID string) string { return strings.TrimSuffix(keyID, ExternalSuffix) }

func externalBinding(o keyring.Owner, v *keyring.Version) keyring.Binding {
	return o.Binding(externalID(v.KeyID), v.KeyType, keyring.ExternalKey)
}

// ExternalKey opens the external key of a version, which seals and opens the texts
// that callers keep. It fails with [ErrNoExternalKey] if there is none; after any
// other error there may still be one.
//
// A caller that seals holds the tenant's lock shared from reading the record until
// the answer, so that the version is active, and its key in storage, when the answer
// is sent.
func (s *Store) ExternalKey(ctx context.Context, o keyring.Owner, v *keyring.Version) (keyring.AEAD, error) {
	a, err := s.aead(ctx, externalBinding(o, v))
	// A missing KEK must not look like a missing external key, in whose place
	// another would be made.
	if errors.Is(err, errNoEntry) {
		return nil, ErrNoExternalKey
	}
	return a, err
}

// MakeExternalKey makes the external key of a version at its first use, unless
// storage has one: see CreateKey. The caller holds the tenant's lock exclusively and has read the
// record under it; it uses the key only after this has succeeded.
//
// Get decides whether there is one, although a Get may be wrong: after a Put that
// failed with effect, Vault's cache may go on showing nothing, and a new key then
// overwrites the one on disk. That loses nothing. The caller that made that key got
// an error and sealed nothing under it. Later callers got nothing from Get either, or,
// once the cache was dropped, the key itself, which from then on Get shows to this
// caller, too. A ciphertext is answered only under a key that a Put has stored
// successfully or that a Get has shown: either way Get goes on showing it, and it is
// never overwritten.
//
// A List, which is not cached, would show the key; but there would be no way to read it.
func (s *Store) MakeExternalKey(ctx context.Context, o keyring.Owner, ownKEK string, v *keyring.Version) error {
	_, err := s.ExternalKey(ctx, o, v)
	if !errors.Is(err, ErrNoExternalKey) {
		return err
	}
	return s.CreateKey(ctx, ownKEK, externalBinding(o, v))
}

// ExternalUse lists the versions that have an external key, by key ID: the key's
// existence is the version's external use. Unlike a Get, a List also shows a key
// whose Put failed with effect. Such a key has sealed nothing, but is key material:
// while it is there its version is not destroyed.
//
// A caller that decides by the answer holds the tenant's lock exclusively.
func (s *Store) ExternalUse(ctx context.Context, o keyring.Owner) (map[string]bool, error) {
	names, err := s.mount.List(ctx, keysOf(o.Incarnation))
	if err != nil {
		return nil, err
	}
	used := map[string]bool{}
	for _, name := range names {
		if id, external := strings.CutSuffix(name, ExternalSuffix); external {
			used[id] = true
		}
	}
	return used, nil
}

// DestroyExternalKey is DestroyKey for the external key of a version.
func (s *Store) DestroyExternalKey(ctx context.Context, incarnation, keyID string) error {
	return s.DestroyKey(ctx, incarnation, externalID(keyID))
}
