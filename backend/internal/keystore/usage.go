// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package keystore

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"

	lru "github.com/hashicorp/golang-lru/v2"
	"github.com/hashicorp/vault/sdk/helper/locksutil"

	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/keyring"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/storage"
)

// ErrExhausted reports a key that may not seal any more. A rotation gives the tenant
// another.
var ErrExhausted = errors.New("the key has sealed as many messages as aes256-gcm allows")

// SealLimits says how seals of aes256-gcm keys are counted, and how many there
// may be. Nonces are random and have 96 bits, so NIST SP 800-38D, 8.3, allows
// 2^32 a key. Tests have smaller ones.
type SealLimits struct {
	// First is how many seals a key has reserved by being made, and by the first
	// reservation after a start. Each further one takes twice as many, up to
	// Largest.
	First, Largest int64
	// Soft is the number of reserved seals from which on a key is over its usage
	// limit and is rotated away. Hard is the number that is never exceeded.
	Soft, Hard int64
	// Sealing, if set, is told of every seal, before it is made.
	Sealing func(incarnation, keyID string)
}

// defaultSealLimits: a key reserves what it may seal twice as fast as it seals,
// so a restart wastes at most as much as was sealed since the last, or First.
// Even a key that seals once between two restarts has two million of them.
var defaultSealLimits = SealLimits{First: 1 << 10, Largest: 1 << 20, Soft: 1 << 31, Hard: 1 << 32}

// openCounters bounds the counters held in memory: some 23 MB. There are more of
// them than opened keys, since a counter that is forgotten costs a write.
const openCounters = 1 << 16

// reservedSeals is the entry of a version of type aes256-gcm: how many seals its
// two keys have reserved. What is missing is First.
type reservedSeals struct {
	Page     int64 `json:"page,omitempty"`
	External int64 `json:"external,omitempty"`
}

func (r *reservedSeals) of(keyID string) *int64 {
	if strings.HasSuffix(keyID, ExternalSuffix) {
		return &r.External
	}
	return &r.Page
}

// Seals counts the messages that the keys of a version have sealed, at most.
type Seals struct{ Page, External int64 }

// sealCounter grants the seals of one key that this process has reserved and not
// made. It may be forgotten, and there may be two of one key: what each has left
// was reserved for it alone.
type sealCounter struct {
	binding keyring.Binding
	left    atomic.Int64
	next    int64 // how many the next reservation takes; under the key's lock
}

// seals counts what keys of type aes256-gcm seal.
type seals struct {
	limits    SealLimits
	locks     []*locksutil.LockEntry // of reserving, by the version's key ID
	counters  *lru.Cache[string, *sealCounter]
	overLimit overLimit
}

func newSeals() *seals {
	counters, err := lru.New[string, *sealCounter](openCounters)
	if err != nil {
		panic(err) // only for a size that is not positive
	}
	return &seals{limits: defaultSealLimits, locks: locksutil.CreateLocks(), counters: counters}
}

// lock is held while seals of a version's keys are reserved.
func (s *seals) lock(keyID string) (release func()) {
	l := locksutil.LockForKey(s.locks, versionKeyID(keyID))
	l.Lock()
	return l.Unlock
}

// LimitSeals sets other limits, before the store is used.
func (s *Store) LimitSeals(l SealLimits) { s.seals.limits = l }

// SealLimit bounds the messages that a key of type aes256-gcm seals.
func (s *Store) SealLimit() int64 { return s.seals.limits.Hard }

// countedAEAD seals only what has been reserved.
type countedAEAD struct {
	keyring.AEAD
	store   *Store
	counter *sealCounter
}

// Seal waits for a write to storage once in many times.
func (a countedAEAD) Seal(plaintext, ad []byte) ([]byte, error) {
	if err := a.store.countSeal(a.counter); err != nil {
		return nil, err
	}
	return a.AEAD.Seal(plaintext, ad)
}

// counted returns a that counts, if keys of its type are to be counted.
func (s *Store) counted(b keyring.Binding, a keyring.AEAD) keyring.AEAD {
	if b.KeyType != keyring.AES256GCM {
		return a
	}
	c := &sealCounter{binding: b, next: s.seals.limits.First}
	if held, found, _ := s.seals.counters.PeekOrAdd(b.KeyID, c); found {
		c = held
	}
	return countedAEAD{a, s, c}
}

// madeKey notes that this process has made a key: the seals that it has reserved
// by that are this process's. Any other that finds the key counts them as made.
func (s *Store) madeKey(b keyring.Binding) {
	if b.KeyType != keyring.AES256GCM {
		return
	}
	c := &sealCounter{binding: b, next: min(2*s.seals.limits.First, s.seals.limits.Largest)}
	c.left.Store(s.seals.limits.First)
	s.seals.counters.Add(b.KeyID, c)
}

// countSeal counts one seal. It fails with [ErrExhausted].
func (s *Store) countSeal(c *sealCounter) error {
	if err := s.takeSeal(c); err != nil {
		return err
	}
	if told := s.seals.limits.Sealing; told != nil {
		told(c.binding.Incarnation, c.binding.KeyID)
	}
	return nil
}

func (s *Store) takeSeal(c *sealCounter) error {
	if c.left.Add(-1) >= 0 {
		return nil
	}
	defer s.seals.lock(c.binding.KeyID)()
	if c.left.Add(-1) >= 0 {
		return nil // another caller has reserved meanwhile
	}
	n, err := s.reserveSeals(c)
	if err != nil {
		return err
	}
	c.left.Store(n - 1)
	return nil
}

// reserveSeals raises what a key has reserved, and returns by how much. Only a
// Put that has succeeded grants anything. One that failed may have taken effect,
// and the cache may hide it: what Get shows is then the last that succeeded, and
// nothing beyond that has been granted to anybody.
//
// A reservation serves many requests, so it does not end with the one that makes
// it. The caller holds the key's lock.
func (s *Store) reserveSeals(c *sealCounter) (int64, error) {
	ctx, l := context.Background(), &s.seals.limits
	r, err := s.readSeals(ctx, c.binding.Incarnation, c.binding.KeyID)
	if storage.IsDamaged(err) {
		// Nobody can say how many there were: the key seals no more, and is replaced.
		s.seals.overLimit.add(c.binding.Tenant, versionKeyID(c.binding.KeyID))
		return 0, fmt.Errorf("%s: %w: %w", c.binding.KeyID, ErrExhausted, err)
	}
	if err != nil {
		return 0, err
	}
	reserved := r.of(c.binding.KeyID)
	*reserved = max(*reserved, l.First)
	n := min(c.next, l.Hard-*reserved)
	if *reserved+n >= l.Soft {
		s.seals.overLimit.add(c.binding.Tenant, versionKeyID(c.binding.KeyID))
	}
	if n <= 0 {
		return 0, fmt.Errorf("%s: %w", c.binding.KeyID, ErrExhausted)
	}
	*reserved += n
	if err := s.mount.PutJSON(ctx, sealsKey(c.binding.Incarnation, c.binding.KeyID), r); err != nil {
		c.next = l.First // so that failing storage does not use a key up
		return 0, err
	}
	c.next = min(2*c.next, l.Largest)
	return n, nil
}

// readSeals reads what the keys of a version have reserved.
func (s *Store) readSeals(ctx context.Context, incarnation, keyID string) (reservedSeals, error) {
	var r reservedSeals
	_, err := s.mount.GetJSON(ctx, sealsKey(incarnation, keyID), &r)
	return r, err
}

// Seals returns how many messages the keys of v have sealed at most: the number that
// has been reserved, less what this process knows to be unused. external says whether
// v has an external key. It returns 0 for types that need no count.
func (s *Store) Seals(ctx context.Context, o keyring.Owner, v *keyring.Version, external bool) (Seals, error) {
	var sealed Seals
	if v.KeyType != keyring.AES256GCM || v.State == keyring.Destroyed {
		return sealed, nil
	}
	defer s.seals.lock(v.KeyID)()
	r, err := s.readSeals(ctx, o.Incarnation, v.KeyID)
	if storage.IsDamaged(err) {
		r = reservedSeals{s.seals.limits.Hard, s.seals.limits.Hard} // no more can have been made
	} else if err != nil {
		return sealed, err
	}
	if !v.PageKeyDestroyed {
		sealed.Page = s.sealed(r, v.KeyID)
	}
	if external {
		sealed.External = s.sealed(r, externalID(v.KeyID))
	}
	return sealed, nil
}

// sealed returns how much one of the two keys has sealed at most. Nothing is reserved
// meanwhile: its lock is held.
func (s *Store) sealed(r reservedSeals, keyID string) int64 {
	n := max(*r.of(keyID), s.seals.limits.First)
	if c, held := s.seals.counters.Peek(keyID); held {
		n -= max(0, c.left.Load())
	}
	return n
}

// ForgetSeals deletes the count of a version both of whose keys have been
// destroyed; not before, since a key that is left would count from the beginning.
// The caller holds the tenant's lock exclusively and repeats it until it succeeds.
func (s *Store) ForgetSeals(ctx context.Context, incarnation string, v keyring.Version) error {
	if v.KeyType != keyring.AES256GCM {
		return nil
	}
	s.seals.counters.Remove(v.KeyID)
	s.seals.counters.Remove(externalID(v.KeyID))
	return s.mount.Delete(ctx, sealsKey(incarnation, v.KeyID))
}

// ForgetAllSeals deletes the counts of an incarnation all of whose keys have been
// destroyed.
func (s *Store) ForgetAllSeals(ctx context.Context, incarnation string) error {
	return s.mount.DeleteBelow(ctx, sealsOf(incarnation))
}
