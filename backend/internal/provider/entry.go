// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package provider

import (
	"context"
	"fmt"
	"time"

	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/ledger"
)

// entry is what is stored of a provider. It carries the events that it decided until the
// evidence log has them, as a tenant's record does.
type entry struct {
	Config
	// Deleted says that there is no such provider any more: the entry itself is deleted
	// once the log has its events.
	Deleted bool `json:"deleted,omitempty"`
	// Denial is the latest that was logged.
	Denial *denial `json:"denial,omitempty"`
	// Unlogged are the events that the evidence log may lack.
	Unlogged []ledger.Event `json:"unlogged,omitempty"`
}

// denial is a time in which a provider refused to open KEKs.
type denial struct {
	Since time.Time `json:"since"`
	Ended bool      `json:"ended,omitempty"`
}

// stored reads the entry of a provider, nil if there is none.
func (s *Store) stored(ctx context.Context, name string) (*entry, error) {
	e := new(entry)
	found, err := s.mount.GetJSON(ctx, prefix+name, e)
	if err != nil || !found {
		return nil, err
	}
	return e, nil
}

// existing is stored. It fails with [ErrNotFound].
func (s *Store) existing(ctx context.Context, name string) (*entry, error) {
	e, err := s.stored(ctx, name)
	if err == nil && (e == nil || e.Deleted) {
		err = fmt.Errorf("%w: %s", ErrNotFound, name)
	}
	if err != nil {
		return nil, err
	}
	return e, nil
}

// put stores an entry, and has the events logged that it carries. After an error it may
// have taken effect: then a later reading finds them. s.writing is held.
func (s *Store) put(ctx context.Context, name string, e *entry) error {
	if err := s.mount.PutJSONSealWrapped(ctx, prefix+name, e); err != nil {
		s.watch.Again()
		return err
	}
	if s.ledger != nil && len(e.Unlogged) > 0 {
		s.ledger.Tell(ctx, e.Unlogged, 0, nil)
	}
	return nil
}

// replace stores an entry with the event of what it changes. Before is what the provider
// was set up with, nil if there was none or it could not be read; after is nil when it is
// deleted. s.writing is held.
func (s *Store) replace(ctx context.Context, name string, next *entry, before, after *Config) error {
	if s.ledger != nil {
		carried, err := s.changed(ctx, name, next.Unlogged, before, after)
		if err != nil {
			return err
		}
		next.Unlogged = carried
	}
	defer s.forget(name)
	return s.put(ctx, name, next)
}
