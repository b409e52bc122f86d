// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package keystore

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/keyring"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/lease"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/provider"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/storage"
)

// What is wrong with a provider that a KEK is to be put under.
var (
	// ErrProvider reports a provider that the mount may not use.
	ErrProvider = errors.New("provider must be one that has mount=true")
	// ErrTenantProvider reports a provider that a tenant may not use.
	ErrTenantProvider = errors.New("key_provider must be one whose tenants name this tenant, or *")
)

// LockedError reports a KEK that is under a provider and not open at this moment. The
// caller lets go of everything that it holds, calls [Store.Unlock], and begins again.
type LockedError struct {
	provider.Place
	Provider string
}

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
	term     *lease.Term
	provider string // empty: the KEK lies in Vault's storage

	// Of a KEK under a provider, under its gate's lock: when the call began by which the
	// provider opened it last, and its times then.
	asked        time.Time
	lease, grace time.Duration
	renewAt      time.Time
}

// decodeKEK returns what the entry of a KEK holds: the key, or what a provider wrapped.
func decodeKEK(id string, entry []byte) (key []byte, p *provider.Protected, err error) {
	if len(entry) == keyring.KeySize {
		return entry, nil, nil
	}
	if p = provider.DecodeProtected(entry); p == nil {
		return nil, nil, fmt.Errorf("%s: %w: malformed", id, ErrDamaged)
	}
	return nil, p, nil
}

// readProtected reads the entry of a KEK. It returns nil, and no error, for one that lies
// in Vault's storage.
func (s *Store) readProtected(ctx context.Context, p provider.Place) (*provider.Protected, error) {
	entry, err := s.readKEKEntry(ctx, p)
	if err != nil {
		return nil, err
	}
	_, wrapped, err := decodeKEK(p.KEKID, entry)
	return wrapped, err
}

// PreparedKEK is what the calls to providers came to before a switch: a new KEK that one
// has wrapped, and opened again once. Nothing is stored, and no lock is held over the calls.
type PreparedKEK struct {
	Owner keyring.Owner // whose own it is to be; the mount's: none
	from  string        // the KEK that is left
	under string        // the provider; empty: the new KEK will lie in Vault's storage
	with  provider.Config

	entry []byte
	kek   *openKEK
}

func (p *PreparedKEK) fits(from, under string) bool {
	return p != nil && p.from == from && p.under == under
}

// prepareSwitch calls the providers for a switch from the KEK in r to one under a provider:
// of the mount's, or, if there is an owner, of that tenant's own. The KEK that is left must
// open, if its provider is left: every key is moved away from it.
func (s *Store) prepareSwitch(ctx context.Context, o keyring.Owner, r *KEKRecord, under string) (*PreparedKEK, error) {
	if r.Provider != "" && r.Provider != under {
		if err := s.unlock(ctx, provider.Place{Owner: o, KEKID: r.KEKID}, provider.Request, true); err != nil {
			return nil, err
		}
	}
	ready := &PreparedKEK{Owner: o, from: r.KEKID, under: under}
	if under == "" {
		return ready, nil
	}
	if _, err := s.mayUse(ctx, under, o); err != nil {
		return nil, err
	}
	id, err := keyring.NewID(idPrefixOf(o))
	if err != nil {
		return nil, err
	}
	place := provider.Place{Owner: o, KEKID: id}
	key, asked := keyring.NewMaterial(), s.now()
	var wrapped []byte
	if wrapped, ready.with, err = s.providers.Wrap(ctx, under, place, key); err != nil {
		return nil, err
	}
	ready.entry, err = provider.Protect(place, under, wrapped, key)
	if err != nil {
		return nil, err
	}
	ready.kek, err = s.openProtected(place, under, key, ready.with, asked) //nolint:contextcheck // renewals outlive the request
	return ready, err
}

// storeNewKEK stores a KEK that no record names yet: one that a provider has wrapped, or a
// fresh one. The caller holds the KEK's lock, under which no provider changes.
func (s *Store) storeNewKEK(ctx context.Context, ready *PreparedKEK) (id string, err error) {
	if ready == nil || ready.under == "" {
		return s.newKEK(ctx)
	}
	c, err := s.mayUse(ctx, ready.under, ready.Owner)
	if err != nil {
		return "", err
	}
	if !c.SameKey(ready.with) {
		return "", storage.ErrContended
	}
	place := provider.Place{Owner: ready.Owner, KEKID: ready.kek.ID}
	at := kekKey(place)
	_, _, lease := s.keks.Get(at)
	if err := s.mount.PutSealWrapped(ctx, at, ready.entry); err != nil {
		return "", err
	}
	s.keks.Keep(at, ready.kek, lease)
	s.gates.Get(place.Incarnation, at)
	return place.KEKID, nil
}

// mayUse reads how a provider is set up. It fails with [ErrProvider] unless there is such a
// one, and the mount may use it, or for a tenant with [ErrTenantProvider].
func (s *Store) mayUse(ctx context.Context, name string, o keyring.Owner) (provider.Config, error) {
	c, err := s.providers.Config(ctx, name)
	missing := errors.Is(err, provider.ErrNotFound)
	switch {
	case err != nil && !missing:
		return c, err
	case o == keyring.Owner{} && (missing || !c.Mount):
		return c, ErrProvider
	case o != keyring.Owner{} && (missing || !c.TenantMayUse(o.Tenant)):
		return c, ErrTenantProvider
	}
	return c, nil
}

func (s *Store) openProtected(p provider.Place, name string, key []byte, c provider.Config, asked time.Time) (*openKEK, error) {
	kek, err := keyring.NewKEK(p.KEKID, key)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", p.KEKID, err)
	}
	o := &openKEK{KEK: kek, provider: name, term: lease.Until(s.now, asked)}
	o.term.RenewBy(func() { s.renewInBackground(p, o) })
	o.renew(c, asked)
	return o, nil
}

// renew begins another lease. It is renewed after seven to nine tenths of it, at random,
// so that many KEKs that were opened at once do not ask at once again.
func (o *openKEK) renew(c provider.Config, asked time.Time) (alive bool) {
	o.asked, o.lease, o.grace = asked, c.Lease, c.Grace
	o.renewAt = asked.Add(c.Lease*7/10 + time.Duration(rand.Int64N(int64(c.Lease)/5))) // #nosec G404 -- no secret
	o.term.RenewFrom(o.renewAt)
	return o.term.Extend(asked.Add(c.Lease))
}

// keepForGrace lets a KEK be used on while its provider is unavailable, if it was opened
// lately enough.
func (o *openKEK) keepForGrace(now time.Time) bool {
	end := o.asked.Add(o.lease + o.grace)
	return o.grace > 0 && now.Before(end) && o.term.Extend(end)
}
