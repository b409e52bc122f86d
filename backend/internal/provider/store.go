// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package provider

import (
	"context"
	"fmt"
	"net/http"
	"reflect"
	"sync"
	"time"

	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/storage"
)

const prefix = "providers/"

// SealWrapped lists the entries that hold credentials, as prefixes: Vault Enterprise wraps
// them with its seal on top of the barrier.
func SealWrapped() []string { return []string{prefix} }

// Store keeps the key providers of one mount, and calls them. It is safe for concurrent
// use.
type Store struct {
	mount *storage.Mount
	now   func() time.Time
	in    Surroundings

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
	// Changed, if set, is told when a provider's state changes.
	Changed func(name string, now State)
}

// NewStore returns the providers in m. now is the clock by which calls are dated.
func NewStore(m *storage.Mount, now func() time.Time, in Surroundings) *Store {
	if in.Changed == nil {
		in.Changed = func(string, State) {}
	}
	return &Store{mount: m, now: now, in: in, live: map[string]*connection{}, states: map[string]State{}, figures: map[string]Figures{}}
}

// Names lists the providers.
func (s *Store) Names(ctx context.Context) ([]string, error) { return s.mount.List(ctx, prefix) }

// Config reads what a provider is set up with. It fails with [ErrNotFound].
func (s *Store) Config(ctx context.Context, name string) (Config, error) {
	var c Config
	found, err := s.mount.GetJSON(ctx, prefix+name, &c)
	if err == nil && !found {
		err = fmt.Errorf("%w: %s", ErrNotFound, name)
	}
	return c, err
}

// Check fails with [ErrInvalid] if the settings break a rule that can be told without
// calling the provider.
func (s *Store) Check(c Config) error { return c.check(s.in) }

// Put stores what a provider is set up with, in place of was, nil if there was none,
// or none that can be read. It fails with [storage.ErrContended] if that has changed
// meanwhile.
func (s *Store) Put(ctx context.Context, name string, c Config, was *Config) error {
	s.writing.Lock()
	defer s.writing.Unlock()
	var now Config
	found, err := s.mount.GetJSON(ctx, prefix+name, &now)
	if storage.IsDamaged(err) {
		found, err = false, nil // it is written anew
	}
	if err != nil {
		return err
	}
	if found != (was != nil) || found && !reflect.DeepEqual(now, *was) {
		return storage.ErrContended
	}
	defer s.forget(name)
	return s.mount.PutJSONSealWrapped(ctx, prefix+name, c)
}

// Delete deletes a provider. The caller has made sure, under the lock of the KEK, that no
// KEK is under it.
func (s *Store) Delete(ctx context.Context, name string) error {
	s.writing.Lock()
	defer s.writing.Unlock()
	defer s.forget(name)
	s.mu.Lock()
	delete(s.states, name)
	delete(s.figures, name)
	s.mu.Unlock()
	return s.mount.Delete(ctx, prefix+name)
}

// forget drops the connection to a provider: the next call reads how it is set up.
func (s *Store) forget(name string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if c := s.live[name]; c != nil {
		delete(s.live, name)
		c.wrapper.close()
	}
}
