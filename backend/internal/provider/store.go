// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package provider

import (
	"context"
	"crypto/x509"
	"net"
	"net/http"
	"reflect"
	"sync"
	"time"

	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/kms"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/ledger"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/storage"
)

const prefix = "providers/"

// SealWrapped lists the entries that hold credentials, as prefixes: Vault Enterprise wraps
// them with its seal on top of the barrier.
func SealWrapped() []string { return []string{prefix} }

// Store keeps the key providers of one mount, and calls them. It is safe for concurrent
// use.
type Store struct {
	mount  *storage.Mount
	now    func() time.Time
	in     Surroundings
	ledger *ledger.Ledger // nil: nothing is logged
	watch  ledger.Watch

	writing sync.Mutex // covers the read-modify-write of an entry

	mu     sync.Mutex
	live   map[string]*connection
	states map[string]State
	// figures are of the calls, by the provider's name.
	figures map[string]Figures
}

// Surroundings are what providers use of the process.
type Surroundings struct {
	// Sockets is the directory below which sockets may lie, empty: none may.
	Sockets string
	// Transport takes the HTTP requests. Nil: a transport for each provider.
	Transport http.RoundTripper
	// Dial makes the connections to Google. Nil: by TCP. Roots are trusted there, nil: the
	// system's.
	Dial  func(ctx context.Context, address string) (net.Conn, error)
	Roots *x509.CertPool
	// Changed, if set, is told when a provider's state changes.
	Changed func(name string, now State)
	// Denial, if set, is told that [Store.LogDenial] is to be called, of a KEK that the
	// provider refused to open, or of none once it has opened one again.
	Denial func(name, kekID string)
}

func (in Surroundings) kms() kms.Surroundings {
	return kms.Surroundings{Sockets: in.Sockets, Transport: in.Transport, Dial: in.Dial, Roots: in.Roots}
}

// NewStore returns the providers in m. now is the clock by which calls are dated.
func NewStore(m *storage.Mount, now func() time.Time, in Surroundings) *Store {
	if in.Changed == nil {
		in.Changed = func(string, State) {}
	}
	if in.Denial == nil {
		in.Denial = func(string, string) {}
	}
	return &Store{mount: m, now: now, in: in, live: map[string]*connection{}, states: map[string]State{}, figures: map[string]Figures{}}
}

// Names lists the providers.
func (s *Store) Names(ctx context.Context) ([]string, error) {
	all, err := s.mount.List(ctx, prefix)
	if err != nil {
		return nil, err
	}
	names := make([]string, 0, len(all))
	for _, name := range all {
		e, err := s.stored(ctx, name)
		if err != nil && !storage.IsDamaged(err) {
			return nil, err
		}
		if e == nil || !e.Deleted {
			names = append(names, name)
		}
	}
	return names, nil
}

// Config reads what a provider is set up with. It fails with [ErrNotFound].
func (s *Store) Config(ctx context.Context, name string) (Config, error) {
	e, err := s.existing(ctx, name)
	if err != nil {
		return Config{}, err
	}
	return e.Config, nil
}

// Check fails with [ErrInvalid] if the settings break a rule that can be told without
// calling the provider.
func (s *Store) Check(c Config) error { return c.check(s.in) }

// Put stores what a provider is set up with, in place of was, nil if there was none,
// or none that can be read. It fails with [storage.ErrContended] if that has changed
// meanwhile, or with [ledger.ErrFull].
func (s *Store) Put(ctx context.Context, name string, c Config, was *Config) error {
	s.writing.Lock()
	defer s.writing.Unlock()
	now, err := s.stored(ctx, name)
	if storage.IsDamaged(err) {
		now, err = nil, nil // it is written anew
	}
	if err != nil {
		return err
	}
	next := entry{Config: c}
	var before *Config
	if now != nil {
		next.Unlogged = now.Unlogged
		if !now.Deleted {
			before = &now.Config
		}
	}
	if (before != nil) != (was != nil) || before != nil && !reflect.DeepEqual(*before, *was) {
		return storage.ErrContended
	}
	return s.replace(ctx, name, &next, before, &c)
}

// Delete deletes a provider. The caller has made sure, under the lock of the KEK, that no
// KEK is under it. It fails with [ErrNotFound] or [ledger.ErrFull].
func (s *Store) Delete(ctx context.Context, name string) error {
	s.writing.Lock()
	defer s.writing.Unlock()
	now, err := s.existing(ctx, name)
	if err != nil && !storage.IsDamaged(err) {
		return err
	}
	defer s.forgetState(name)
	if s.ledger == nil {
		defer s.forget(name)
		return s.mount.Delete(ctx, prefix+name)
	}
	// The entry says that the provider is deleted until the log has it.
	next := entry{Deleted: true}
	var before *Config
	if now != nil {
		next.Unlogged, before = now.Unlogged, &now.Config
	}
	defer s.watch.Again()
	return s.replace(ctx, name, &next, before, nil)
}

func (s *Store) forgetState(name string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.states, name)
	delete(s.figures, name)
}

// forget drops the connection to a provider: the next call reads how it is set up.
func (s *Store) forget(name string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if c := s.live[name]; c != nil {
		delete(s.live, name)
		c.wrapper.Close()
	}
}
