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

// ErrNoExternalKey reports that nothing has left the engine under a version.
var ErrNoExternalKey = errors.New("the version has no external key")

func externalID(keyID string) string { return keyID + ExternalSuffix }

// versionKeyID is the key ID of the version whose page or external key keyID is.
func versionKeyID(keyID string) string { return strings.TrimSuffix(keyID, ExternalSuffix) }

func externalBinding(o keyring.Owner, v *keyring.Version) keyring.Binding {
	return o.Binding(externalID(v.KeyID), v.KeyType, keyring.ExternalKey)
}

// ExternalKey opens the external key of a version, which seals and opens what
// leaves the engine. It fails with [ErrNoExternalKey] if there is none; any
// other error is a fault, after which there may well be one.
//
// Who seals holds the tenant's lock shared from reading t until the answer, so
// that the version is the active one, and its key there, when the answer goes
// out.
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
// storage has one. The caller holds the tenant's lock exclusively and has read t
// under it; it uses the key only after this has succeeded.
//
// Whether there is one, Get decides, though a Get may be wrong: after a Put that
// failed with effect, Vault's cache may go on showing nothing, and a new key
// then overwrites the one on disk. That loses nothing. Who made the hidden key
// got an error and sealed nothing under it; whoever came since got nothing from
// Get either, or, had the cache been dropped, the key itself, which from then on
// Get shows to this caller too. A ciphertext is answered only under a key that a
// Put has stored with success, or that a Get has shown: either way Get goes on
// showing it, and it is never overwritten.
//
// A List, which is not cached, would show the hidden key; but there would be no
// way to read it.
func (s *Store) MakeExternalKey(ctx context.Context, o keyring.Owner, v *keyring.Version) error {
	_, err := s.ExternalKey(ctx, o, v)
	if !errors.Is(err, ErrNoExternalKey) {
		return err
	}
	return s.CreateKey(ctx, externalBinding(o, v))
}

// ExternalUse lists the versions of t that have an external key, by key ID: that
// it exists is what external use means. Unlike a Get, a List shows a key too
// whose Put failed with effect. Such a key has sealed nothing, but is key
// material: while it is there its version is not destroyed.
//
// Who decides by it holds the tenant's lock exclusively.
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
