// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package keystore

import (
	"context"
	"errors"
	"slices"

	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/provider"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/storage"
)

// ProviderInUse counts the KEKs in storage that are under a provider, and returns the first
// of them, at most most, to be opened.
func (s *Store) ProviderInUse(ctx context.Context, name string, most int) (count int, sealed []provider.Sealed, err error) {
	stored, err := s.allKEKs(ctx)
	if err != nil {
		return 0, nil, err
	}
	for _, place := range stored {
		key := kekKey(place)
		if known, read := s.under.Load(key); read && (known != name || len(sealed) >= most) {
			if known == name {
				count++
			}
			continue
		}
		w, err := s.readProtected(ctx, place)
		if errors.Is(err, ErrDamaged) || errors.Is(err, ErrGone) {
			continue
		}
		if err != nil {
			return 0, nil, err
		}
		if w == nil {
			continue
		}
		if place.Incarnation != "" {
			s.under.Store(key, w.Provider) // an entry is written once
		}
		if w.Provider != name {
			continue
		}
		if count++; len(sealed) < most {
			place.Tenant = w.Tenant
			sealed = append(sealed, provider.Sealed{Place: place, Wrapped: w.Wrapped, Check: w.Is(place.KEKID)})
		}
	}
	return count, sealed, nil
}

// ErrProviderInUse reports a provider that protects a KEK.
var ErrProviderInUse = errors.New("the provider protects key-encryption keys: move them away first, with kek/rotate of the mount and of tenants")

// DeleteProvider deletes a provider that no KEK is under. It fails with
// [provider.ErrNotFound] or [ErrProviderInUse].
func (s *Store) DeleteProvider(ctx context.Context, name string) error {
	s.kekLock.Lock()
	defer s.kekLock.Unlock()
	if _, err := s.providers.Config(ctx, name); err != nil && !storage.IsDamaged(err) {
		return err
	}
	count, _, err := s.ProviderInUse(ctx, name, 0)
	if err != nil {
		return err
	}
	if count > 0 {
		return ErrProviderInUse
	}
	return s.providers.Delete(ctx, name)
}

// openedAtPut bounds the KEKs that a provider has to open before its settings change.
const openedAtPut = 100

// PutProvider sets a provider up, or changes how it is set up, once it has wrapped and
// unwrapped a probe and opened what it protects already, up to 100 KEKs. was is what it was
// set up with, nil if there was none. It fails with a [provider.Error] or
// [storage.ErrContended], and then nothing has changed.
func (s *Store) PutProvider(ctx context.Context, name string, c provider.Config, was *provider.Config) error {
	count, sealed, err := s.ProviderInUse(ctx, name, openedAtPut)
	if err != nil {
		return err
	}
	if err := s.providers.Try(ctx, name, c, sealed); err != nil {
		return err
	}
	s.kekLock.Lock()
	defer s.kekLock.Unlock()
	now, again, err := s.ProviderInUse(ctx, name, openedAtPut)
	if err != nil {
		return err
	}
	if now != count || !slices.EqualFunc(sealed, again, func(a, b provider.Sealed) bool { return a.Place == b.Place }) {
		return storage.ErrContended // a KEK came under it meanwhile, which was not tried
	}
	return s.providers.Put(ctx, name, c, was)
}

// ProviderState says what the latest call to the provider of the current KEK came to, empty
// if that lies in Vault's storage. A provider that was not called since the engine started
// is one that nothing needed.
func (s *Store) ProviderState(r *KEKRecord) string {
	if r.Provider == "" {
		return ""
	}
	if state := s.providers.State(r.Provider).State; state != "" {
		return state
	}
	return provider.StateOK
}
