// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package keystore

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/fxamacker/cbor/v2"

	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/keyring"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/provider"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/storage"
)

// ErrProvider reports a provider that the mount may not use.
var ErrProvider = errors.New("provider must be one that has mount=true")

// LockedError reports a KEK that is under a provider and not open at this moment. The
// caller lets go of everything that it holds, calls [Store.Unlock], and begins again.
type LockedError struct{ KEKID, Provider string }

func (e *LockedError) Error() string {
	return fmt.Sprintf("%s is to be opened by key provider %s", e.KEKID, e.Provider)
}

// IsLocked reports whether err is a [LockedError].
func IsLocked(err error) bool {
	var locked *LockedError
	return errors.As(err, &locked)
}

// openKEK is a KEK in memory. A use is allowed while its term lasts.
type openKEK struct {
	*keyring.KEK
	term     *Term
	provider string // empty: the KEK lies in Vault's storage

	// Of a KEK under a provider, under its gate's lock: when the call began by which the
	// provider opened it last, and its times then.
	asked        time.Time
	lease, grace time.Duration
	renewAt      time.Time
}

// protectedKEK is the entry of a KEK under a provider. That of a KEK in Vault's storage
// is the key itself, which is shorter than any of these.
type protectedKEK struct {
	Format     uint8  `cbor:"1,keyasint"` // 2
	Provider   string `cbor:"2,keyasint"`
	Wrapped    []byte `cbor:"3,keyasint"`
	Commitment []byte `cbor:"4,keyasint"`
}

const protectedFormat = 2

// commitmentOf tells a KEK from every other, and nothing about it: a KEK is random and as
// long as the hash.
func commitmentOf(kekID string, key []byte) []byte {
	sum := sha256.Sum256(append(keyring.AssociatedData("vault-plugin-dek/kek-commitment/v1", kekID), key...))
	return sum[:]
}

func (p *protectedKEK) is(kekID string) func(key []byte) bool {
	return func(key []byte) bool {
		return subtle.ConstantTimeCompare(commitmentOf(kekID, key), p.Commitment) == 1
	}
}

// decodeKEK returns what the entry of a KEK holds: the key, or what a provider wrapped.
func decodeKEK(id string, entry []byte) (key []byte, p *protectedKEK, err error) {
	if len(entry) == keyring.KeySize {
		return entry, nil, nil
	}
	p = new(protectedKEK)
	if err := cbor.Unmarshal(entry, p); err != nil || p.Format != protectedFormat || p.Provider == "" {
		return nil, nil, fmt.Errorf("%s: %w: malformed", id, ErrDamaged)
	}
	return nil, p, nil
}

// readProtected reads the entry of a KEK. It returns nil, and no error, for one that lies
// in Vault's storage.
func (s *Store) readProtected(ctx context.Context, id string) (*protectedKEK, error) {
	entry, err := s.readKEKEntry(ctx, id)
	if err != nil {
		return nil, err
	}
	_, p, err := decodeKEK(id, entry)
	return p, err
}

// preparedSwitch is what the calls to providers came to before a switch: a new KEK that one
// has wrapped, and opened again once. Nothing is stored, and no lock is held over the calls.
type preparedSwitch struct {
	from  string // the KEK that is left
	under string // the provider; empty: the new KEK will lie in Vault's storage
	with  provider.Config

	entry []byte
	kek   *openKEK
}

func (p *preparedSwitch) fits(r *KEKRecord, under string) bool {
	return p != nil && p.from == r.KEKID && p.under == under
}

// prepareSwitch calls the providers for a switch from the KEK in r to one under a provider.
// The KEK that is left must open, if its provider is left: every key is moved away from it.
func (s *Store) prepareSwitch(ctx context.Context, r *KEKRecord, under string) (*preparedSwitch, error) {
	if r.Provider != "" && r.Provider != under {
		if err := s.Unlock(ctx, r.KEKID, provider.Request); err != nil {
			return nil, err
		}
	}
	ready := &preparedSwitch{from: r.KEKID, under: under}
	if under == "" {
		return ready, nil
	}
	if _, err := s.mountMayUse(ctx, under); err != nil {
		return nil, err
	}
	id, err := keyring.NewID("kek-")
	if err != nil {
		return nil, err
	}
	key, asked := keyring.NewMaterial(), s.now()
	var wrapped []byte
	if wrapped, ready.with, err = s.providers.Wrap(ctx, under, provider.Place{KEKID: id}, key); err != nil {
		return nil, err
	}
	ready.entry, err = cbor.Marshal(protectedKEK{protectedFormat, under, wrapped, commitmentOf(id, key)})
	if err != nil {
		return nil, fmt.Errorf("encoding a KEK: %w", err)
	}
	ready.kek, err = s.openProtected(id, under, key, ready.with, asked)
	return ready, err
}

// storeNewKEK stores a KEK that no record names yet: one that a provider has wrapped, or a
// fresh one. The caller holds the KEK's lock exclusively, under which no provider changes.
func (s *Store) storeNewKEK(ctx context.Context, ready *preparedSwitch) (id string, err error) {
	if ready == nil || ready.under == "" {
		return s.newKEK(ctx)
	}
	c, err := s.mountMayUse(ctx, ready.under)
	if err != nil {
		return "", err
	}
	if !c.SameKey(ready.with) {
		return "", storage.ErrContended
	}
	id = ready.kek.ID
	_, _, lease := s.keks.Get(kekPrefix + id)
	if err := s.mount.PutSealWrapped(ctx, kekPrefix+id, ready.entry); err != nil {
		return "", err
	}
	s.keks.Keep(kekPrefix+id, ready.kek, lease)
	s.gates.get(id)
	return id, nil
}

// mountMayUse reads how a provider is set up. It fails with [ErrProvider] unless there is
// such a one, and the mount may use it.
func (s *Store) mountMayUse(ctx context.Context, name string) (provider.Config, error) {
	c, err := s.providers.Config(ctx, name)
	if errors.Is(err, provider.ErrNotFound) || err == nil && !c.Mount {
		err = ErrProvider
	}
	return c, err
}

func (s *Store) openProtected(id, name string, key []byte, c provider.Config, asked time.Time) (*openKEK, error) {
	kek, err := keyring.NewKEK(id, key)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", id, err)
	}
	o := &openKEK{KEK: kek, provider: name, term: newTerm(s.now, asked.UnixNano())}
	o.renew(c, asked)
	return o, nil
}

// renew begins another lease. It is renewed after seven to nine tenths of it, at random,
// so that many KEKs that were opened at once do not ask at once again.
func (o *openKEK) renew(c provider.Config, asked time.Time) (alive bool) {
	o.asked, o.lease, o.grace = asked, c.Lease, c.Grace
	o.renewAt = asked.Add(c.Lease*7/10 + time.Duration(rand.Int64N(int64(c.Lease)/5))) // #nosec G404 -- no secret
	return o.term.extend(asked.Add(c.Lease))
}

// keepForGrace lets a KEK be used on while its provider is unavailable, if it was opened
// lately enough.
func (o *openKEK) keepForGrace(now time.Time) bool {
	end := o.asked.Add(o.lease + o.grace)
	return o.grace > 0 && now.Before(end) && o.term.extend(end)
}
