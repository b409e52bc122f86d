// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package tenant

import (
	"context"
	"errors"
	"fmt"
	"slices"
)

// ErrUnchanged is what a change returns that leaves the record as it is.
var ErrUnchanged = errors.New("nothing to change")

// Held is a tenant whose lock is held exclusively. Only through it is the tenant's
// record changed.
type Held struct {
	store  *Store
	id     string
	record *Record // nil: there is none
}

// Hold calls f while it holds the tenant's lock exclusively, and has read its
// record under it. That there is no tenant is no error.
func (s *Store) Hold(ctx context.Context, tenantID string, f func(*Held) error) error {
	defer s.Exclusive(tenantID)()
	t, err := s.Read(ctx, tenantID)
	if err != nil && !errors.Is(err, ErrNotFound) {
		return err
	}
	return f(&Held{store: s, id: tenantID, record: t})
}

// Update changes the record of a tenant: it holds the tenant's lock exclusively,
// lets change have a copy of the record, and stores that. It returns the record as
// it is then. An error of change refuses the change; [ErrUnchanged] leaves the
// record as it is and is no error. It fails with [ErrNotFound]. Any other error
// leaves open whether the change was made.
func (s *Store) Update(ctx context.Context, tenantID string, change func(*Record) error) (t *Record, err error) {
	err = s.Hold(ctx, tenantID, func(h *Held) error {
		t, err = h.Update(ctx, change)
		return err
	})
	return t, err
}

// Record is the tenant's record, nil if there is none. It is shared: to change it,
// change a clone.
func (h *Held) Record() *Record { return h.record }

// Active is the record of a tenant that can be used. It fails with [ErrNotFound]
// or [ErrDeleting].
func (h *Held) Active() (*Record, error) {
	if h.record == nil {
		return nil, ErrNotFound
	}
	return h.record, h.record.Usable()
}

// Update is [Store.Update] of a tenant that is held.
func (h *Held) Update(ctx context.Context, change func(*Record) error) (*Record, error) {
	if h.record == nil {
		return nil, ErrNotFound
	}
	next := h.record.Clone()
	if err := change(next); errors.Is(err, ErrUnchanged) {
		return h.record, nil
	} else if err != nil {
		return nil, err
	}
	return next, h.Put(ctx, next)
}

// Put stores the record that follows: the one change of state that there is. An
// error leaves open whether the change was made; to repeat it settles it.
func (h *Held) Put(ctx context.Context, next *Record) error {
	if err := h.store.put(ctx, h.record, next); err != nil {
		return err
	}
	h.record = next
	return nil
}

// Fence makes sure that storage holds the record as it was read, or none if there
// was none: a Put of it that failed may have taken effect behind a stale cache.
func (h *Held) Fence(ctx context.Context) error {
	return h.store.fence(ctx, h.record, h.id)
}

// put stores the record that follows old, nil for a new tenant, with its hints.
func (s *Store) put(ctx context.Context, old, next *Record) error {
	var had []Hint
	if old != nil {
		had = old.Hints()
	}
	wants := next.Hints()
	// Whoever has looked at the record before this looks at it again.
	defer func() {
		for _, h := range wants {
			s.agenda.changed(h)
		}
	}()
	for _, h := range wants {
		if !slices.Contains(had, h) {
			if err := s.putHint(ctx, h); err != nil {
				return err
			}
		}
	}
	if err := s.putTenant(ctx, next); err != nil {
		for _, h := range had {
			s.agenda.changed(h)
		}
		return err
	}
	for _, h := range had {
		if !slices.Contains(wants, h) {
			// If this fails the hint is one too many, and dropped later.
			_ = s.deleteHint(ctx, h)
		}
	}
	return nil
}

// DropHint deletes a hint that the tenant's record does not want. The record is
// first put as it was read (or, if there was none, deleted): a Put of it that
// failed may have taken effect behind a stale cache, and want the hint.
func (h *Held) DropHint(ctx context.Context, hint Hint) error {
	if err := h.Fence(ctx); err != nil {
		return err
	}
	return h.store.deleteHint(ctx, hint)
}

// fence makes sure that the record is what was read. t is nil if there was none.
func (s *Store) fence(ctx context.Context, t *Record, tenantID string) error {
	var err error
	if t != nil {
		err = s.putTenant(ctx, t)
	} else {
		err = s.forgetTenant(ctx, tenantID)
	}
	if err != nil {
		return fmt.Errorf("making sure of the tenant's record: %w", err)
	}
	return nil
}
