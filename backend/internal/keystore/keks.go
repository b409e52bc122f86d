// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package keystore

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/keyring"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/ledger"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/provider"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/storage"
)

// ErrNoKEK reports that the mount has no key-encryption key yet.
var ErrNoKEK = errors.New("there is no key-encryption key yet: it is made with the first tenant")

// KEKRecord names the current KEK and its latest rotation. Like a tenant's record it
// decides, and every change is one Put of it, under the KEK's exclusive lock. KEKs
// themselves are written once.
type KEKRecord struct {
	KEKID     string       `json:"kek_id"`
	Provider  string       `json:"provider,omitempty"`  // that it is under; empty: it lies in Vault's storage
	CreatedAt time.Time    `json:"created_at,omitzero"` // zero: made before this was noted
	Rotation  *KEKRotation `json:"rotation,omitempty"`
	// Unlogged are the events that the evidence log may lack.
	Unlogged []ledger.Event `json:"unlogged,omitempty"`
}

// CurrentKEK returns the KEK that wraps the keys of o now: one of its own, of that ID, or
// without an ID the mount's, made if there is none yet. The mount's KEK lock stays held
// shared until release, so that the KEK cannot be switched before what it wraps is stored.
// It fails with a [LockedError].
func (s *Store) CurrentKEK(ctx context.Context, o keyring.Owner, ownID string) (kek *keyring.KEK, release func(), err error) {
	opened, release, err := s.kekOf(ctx, o, ownID)
	if err != nil {
		return nil, nil, err
	}
	return opened.KEK, release, nil
}

func (s *Store) kekOf(ctx context.Context, o keyring.Owner, ownID string) (kek *openKEK, release func(), err error) {
	if ownID == "" {
		return s.currentKEK(ctx)
	}
	// The caller holds the tenant's lock: its KEK is not switched meanwhile.
	kek, err = s.openKEK(ctx, provider.Place{Owner: o, KEKID: ownID})
	return kek, func() {}, err
}

func (s *Store) currentKEK(ctx context.Context) (kek *openKEK, release func(), err error) {
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
func (s *Store) readCurrentKEK(ctx context.Context) (*openKEK, error) {
	r, kept, lease := s.current.Get(kekCurrent)
	if !kept {
		var err error
		if r, err = s.readKEK(ctx); errors.Is(err, ErrNoKEK) {
			return nil, nil
		} else if err != nil {
			return nil, err
		}
		s.current.Keep(kekCurrent, r, lease)
	}
	return s.openKEK(ctx, provider.Place{KEKID: r.KEKID})
}

// makeFirstKEK writes the key, then the record that names it. If the record is
// not written, the key is left over: nothing was wrapped under it, and the next
// rotation of the KEK destroys it.
func (s *Store) makeFirstKEK(ctx context.Context) error {
	s.kekLock.Lock()
	defer s.kekLock.Unlock()
	if kek, err := s.readCurrentKEK(ctx); kek != nil || err != nil {
		return err // another caller made it meanwhile
	}
	id, err := s.newKEK(ctx)
	if err != nil {
		return err
	}
	return s.putKEKRecord(ctx, &KEKRecord{KEKID: id, CreatedAt: s.now()})
}

// newKEK makes a KEK that no record names yet.
func (s *Store) newKEK(ctx context.Context) (id string, err error) {
	if id, err = keyring.NewID("kek-"); err != nil {
		return "", err
	}
	// The material is not cleared: the storage may go on holding the slice.
	return id, s.mount.PutSealWrapped(ctx, kekPrefix+id, keyring.NewMaterial())
}

// KEK reads the record of the mount's KEK from storage. It fails with [ErrNoKEK].
//
// Vault's cache may show an old record for a while, after a Put of it that failed with
// effect. Then the old KEK goes on wrapping, and still exists: the process that destroys
// it has itself read the new record, here. So what wrapping has kept of the record is
// dropped, and what was read before is not kept: Vault's cache does not go back.
func (s *Store) KEK(ctx context.Context) (*KEKRecord, error) {
	defer s.current.Drop(kekCurrent)
	return s.readKEK(ctx)
}

func (s *Store) readKEK(ctx context.Context) (*KEKRecord, error) {
	r := new(KEKRecord)
	found, err := s.mount.GetJSON(ctx, kekCurrent, r)
	if err != nil {
		return nil, err
	}
	if !found {
		return nil, ErrNoKEK
	}
	return r, nil
}

// putKEKRecord stores the record, and has the events logged that it carries. After an error
// it may have taken effect: then a later reading finds them.
func (s *Store) putKEKRecord(ctx context.Context, r *KEKRecord) error {
	s.current.Begin(kekCurrent)
	err := s.mount.PutJSON(ctx, kekCurrent, r)
	s.current.End(kekCurrent, nil)
	if err != nil {
		s.watch.Again()
		return err
	}
	if s.ledger != nil && len(r.Unlogged) > 0 {
		s.ledger.Tell(ctx, r.Unlogged, 0, nil)
	}
	return nil
}

// OpenKEK returns a KEK, from memory once it was read: every key of a tenant that is
// not in memory needs it. A KEK is written once and forgotten before it is destroyed, so
// one in memory is as it is stored. One under a provider is not opened here. It fails with
// [ErrGone], [ErrDamaged] or a [LockedError].
func (s *Store) OpenKEK(ctx context.Context, p provider.Place) (*keyring.KEK, error) {
	o, err := s.openKEK(ctx, p)
	if err != nil {
		return nil, err
	}
	return o.KEK, nil
}

func (s *Store) openKEK(ctx context.Context, p provider.Place) (*openKEK, error) {
	id, at := p.KEKID, kekKey(p)
	o, opened, lease := s.keks.Get(at)
	if opened && o.term.Use() {
		return o, nil
	}
	term := s.inVault.Load() // before reading: what is read may be destroyed since
	entry, err := s.readKEKEntry(ctx, p)
	if err != nil {
		return nil, err
	}
	key, protected, err := decodeKEK(id, entry)
	if err != nil {
		return nil, err
	}
	if protected != nil {
		return nil, &LockedError{Place: p, Provider: protected.Provider}
	}
	kek, err := keyring.NewKEK(id, key)
	if err != nil {
		return nil, fmt.Errorf("%s: %w: %w", id, ErrDamaged, err)
	}
	o = &openKEK{KEK: kek, term: term}
	s.keks.Keep(at, o, lease)
	return o, nil
}

func (s *Store) readKEKEntry(ctx context.Context, p provider.Place) ([]byte, error) {
	id := p.KEKID
	key, err := s.mount.Get(ctx, kekKey(p))
	if storage.IsDamaged(err) {
		return nil, fmt.Errorf("%s: %w: %w", id, ErrDamaged, err)
	}
	if err != nil {
		return nil, fmt.Errorf("reading %s: %w", id, err)
	}
	if key == nil {
		return nil, fmt.Errorf("%s: %w", id, ErrGone)
	}
	return key, nil
}

// StoredKEKs lists the mount's KEKs in storage: the current one, those that a rotation
// has not finished with, and any left over from an attempt to make one.
func (s *Store) StoredKEKs(ctx context.Context) ([]string, error) {
	return s.mount.List(ctx, kekPrefix)
}
