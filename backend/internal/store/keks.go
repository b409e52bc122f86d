// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package store

import (
	"context"
	"fmt"

	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/keyring"
)

// kekPointer says which KEK wraps. KEKs themselves are written once.
type kekPointer struct {
	KEKID string `json:"kek_id"`
}

// currentKEK returns the KEK that wraps now, made if there is none yet. The
// mount's KEK lock stays held shared until release, so that the KEK cannot be
// switched before what it wraps is stored.
func (s *Store) currentKEK(ctx context.Context) (kek *keyring.KEK, release func(), err error) {
	for range 2 {
		s.kekLock.RLock()
		kek, err = s.readCurrentKEK(ctx)
		if kek != nil {
			return kek, s.kekLock.RUnlock, nil
		}
		s.kekLock.RUnlock()
		if err != nil {
			return nil, nil, err
		}
		if err := s.makeFirstKEK(ctx); err != nil {
			return nil, nil, err
		}
	}
	return nil, nil, fmt.Errorf("the key-encryption key was written but does not show")
}

// readCurrentKEK returns nil, and no error, if there is none yet.
func (s *Store) readCurrentKEK(ctx context.Context) (*keyring.KEK, error) {
	var p kekPointer
	found, err := s.getJSON(ctx, kekCurrent, &p)
	if err != nil || !found {
		return nil, err
	}
	return s.kek(ctx, p.KEKID)
}

// makeFirstKEK writes the key, then the pointer to it. If the pointer is not
// written, the key is left over: nothing was wrapped under it.
func (s *Store) makeFirstKEK(ctx context.Context) error {
	s.kekLock.Lock()
	defer s.kekLock.Unlock()
	if kek, err := s.readCurrentKEK(ctx); kek != nil || err != nil {
		return err // somebody made it meanwhile
	}
	id, err := NewID("kek-")
	if err != nil {
		return err
	}
	// The material is not cleared: the storage may go on holding the slice.
	if err := s.putSealWrapped(ctx, kekPrefix+id, keyring.NewMaterial()); err != nil {
		return err
	}
	return s.putJSON(ctx, kekCurrent, kekPointer{KEKID: id})
}

// kek reads a KEK. Opening a key is rare (opened keys are cached), so KEKs are
// not kept in memory.
func (s *Store) kek(ctx context.Context, id string) (*keyring.KEK, error) {
	entry, err := s.storage.Get(ctx, kekPrefix+id)
	if err != nil {
		return nil, fmt.Errorf("reading %s: %w", id, err)
	}
	if entry == nil {
		return nil, fmt.Errorf("%s: %w", id, ErrKeyGone)
	}
	return keyring.NewKEK(id, entry.Value)
}
