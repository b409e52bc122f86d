// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package keystore

import (
	"context"
	"errors"
	"path"
	"strings"

	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/keyring"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/provider"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/storage"
)

// A tenant may have a KEK of its own, under a key provider. The tenant's record names it,
// and a caller that wraps or moves one of its keys holds the tenant's lock. A wrapped key names
// its KEK; the beginning of that ID says whether the KEK is the mount's or the tenant's.

const (
	kekID    = "kek-"
	ownKEKID = "tkek-"
)

func idPrefixOf(o keyring.Owner) string {
	if o == (keyring.Owner{}) {
		return kekID
	}
	return ownKEKID
}

// PlaceOf returns where the KEK of that ID belongs that wraps a key of o: to o, or to the
// mount.
func PlaceOf(o keyring.Owner, id string) provider.Place {
	if IsOwnKEK(id) {
		return provider.Place{Owner: o, KEKID: id}
	}
	return provider.Place{KEKID: id}
}

// IsOwnKEK reports whether an ID is that of a tenant's own KEK.
func IsOwnKEK(id string) bool { return strings.HasPrefix(id, ownKEKID) }

func kekKey(p provider.Place) string {
	if p.Incarnation == "" {
		return kekPrefix + p.KEKID
	}
	return ownShardOf(p.Incarnation) + p.Incarnation + "." + p.KEKID
}

// ownShardOf spreads tenants' KEKs, so that listing one tenant's shows few others.
func ownShardOf(incarnation string) string {
	return ownPrefix + incarnation[:min(2, len(incarnation))] + "/"
}

// incarnationOf returns whose own the KEK at a storage key is, empty for the mount's.
func incarnationOf(key string) string {
	if !strings.HasPrefix(key, ownPrefix) {
		return ""
	}
	incarnation, _, _ := strings.Cut(path.Base(key), ".")
	return incarnation
}

// OwnKEKs lists the KEKs of an incarnation's own: the one that its record names, those that
// a move has not finished with, and any left over from an attempt to make one.
func (s *Store) OwnKEKs(ctx context.Context, incarnation string) (ids []string, err error) {
	names, err := s.mount.List(ctx, ownShardOf(incarnation))
	if err != nil {
		return nil, err
	}
	for _, name := range names {
		if id, its := strings.CutPrefix(name, incarnation+"."); its {
			ids = append(ids, id)
		}
	}
	return ids, nil
}

// allKEKs lists all KEKs, without the IDs of tenants.
func (s *Store) allKEKs(ctx context.Context) (places []provider.Place, err error) {
	ids, err := s.StoredKEKs(ctx)
	if err != nil {
		return nil, err
	}
	for _, id := range ids {
		places = append(places, provider.Place{KEKID: id})
	}
	shards, err := s.mount.List(ctx, ownPrefix)
	if err != nil {
		return nil, err
	}
	for _, shard := range shards {
		names, err := s.mount.List(ctx, ownPrefix+shard)
		if err != nil {
			return nil, err
		}
		for _, name := range names {
			incarnation, id, _ := strings.Cut(name, ".")
			places = append(places, provider.Place{Owner: keyring.Owner{Incarnation: incarnation}, KEKID: id})
		}
	}
	return places, nil
}

// needsKEKError is what StoreOwnKEK fails with if the KEK is to be prepared.
type needsKEKError struct {
	owner keyring.Owner
	from  KEKRecord
	under string
}

func (*needsKEKError) Error() string { return "a key-encryption key is to be prepared" }

// WithOwnKEK calls f. If that asks for a KEK by [Store.StoreOwnKEK], the providers are
// called, and f again. f takes the locks that it needs, and changes nothing before it asks.
func (s *Store) WithOwnKEK(ctx context.Context, f func(ready *PreparedKEK) error) error {
	var ready *PreparedKEK
	for range switchTries {
		err := f(ready)
		var needs *needsKEKError
		if !errors.As(err, &needs) {
			return err
		}
		if ready, err = s.prepareSwitch(ctx, needs.owner, &needs.from, needs.under); err != nil {
			return err
		}
	}
	return storage.ErrContended
}

// StoreOwnKEK stores a KEK of o's own, under a provider, and returns what its record is to
// say of it: nil if the provider is empty, since the mount's KEK wraps then. from is the KEK
// that is left. The caller holds the tenant's lock exclusively and returns the error to
// [Store.WithOwnKEK], which may be that the KEK is to be prepared first.
func (s *Store) StoreOwnKEK(ctx context.Context, o keyring.Owner, from KEKRecord, under string, ready *PreparedKEK) (*KEKRecord, error) {
	if under == "" && from.Provider == "" {
		return nil, nil
	}
	if !ready.fits(from.KEKID, under) || ready.Owner != o {
		return nil, &needsKEKError{o, from, under}
	}
	if under == "" {
		return nil, nil
	}
	s.kekLock.RLock()
	defer s.kekLock.RUnlock()
	id, err := s.storeNewKEK(ctx, ready)
	if err != nil {
		return nil, err
	}
	return &KEKRecord{KEKID: id, Provider: under, CreatedAt: s.now()}, nil
}

// MayWrap makes sure that a KEK of o's own can wrap now: without an ID there is nothing to
// make sure of. It fails with a [LockedError].
func (s *Store) MayWrap(ctx context.Context, o keyring.Owner, ownID string) error {
	if ownID == "" {
		return nil
	}
	_, err := s.openKEK(ctx, provider.Place{Owner: o, KEKID: ownID})
	return err
}

// DestroyOwnKEKs destroys the KEKs of an incarnation's own but one, empty for all. The caller
// holds the tenant's lock exclusively and has seen that no key is on them, or that none is
// needed.
func (s *Store) DestroyOwnKEKs(ctx context.Context, incarnation, but string) error {
	ids, err := s.OwnKEKs(ctx, incarnation)
	if err != nil {
		return err
	}
	for _, id := range ids {
		if id == but {
			continue
		}
		if err := s.DestroyOwnKEK(ctx, incarnation, id); err != nil {
			return err
		}
	}
	return nil
}

// DestroyOwnKEK is DestroyOwnKEKs of one, which need not be there.
func (s *Store) DestroyOwnKEK(ctx context.Context, incarnation, id string) error {
	return s.destroyKEK(ctx, kekKey(provider.Place{Owner: keyring.Owner{Incarnation: incarnation}, KEKID: id}))
}

// Reopen forgets the opened keys of those IDs: they have moved beneath another KEK, with
// whose lease they are to end. A key that is being loaded is waited for.
func (s *Store) Reopen(ids []string) {
	s.keys.loading.Lock()
	defer s.keys.loading.Unlock()
	for _, id := range ids {
		s.keys.opened.Remove(id)
	}
}
