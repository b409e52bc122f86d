// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package tenant

import (
	"context"
	"fmt"
	"slices"
)

// Commit stores the record that follows old, nil for a new tenant, with its
// hints: the one change of state that there is. The caller holds the tenant's
// lock exclusively. An error leaves open whether the change was made.
func (s *Store) Commit(ctx context.Context, old, next *Record) error {
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

// deleteHint deletes a hint that is wanted no more.
func (s *Store) deleteHint(ctx context.Context, h Hint) error {
	if err := s.mount.Delete(ctx, h.key()); err != nil {
		s.agenda.changed(h)
		return err
	}
	s.agenda.gone(h)
	return nil
}

// putHint writes a hint.
func (s *Store) putHint(ctx context.Context, h Hint) error {
	s.floors.lock.RLock()
	defer s.floors.lock.RUnlock()
	if err := s.floors.lower(ctx, s, h); err != nil {
		return err
	}
	return s.mount.Put(ctx, h.key(), []byte{})
}

// DropHint deletes a hint that the tenant's record does not want. The record is
// first put as it was read (or, if there was none, deleted): a Put of it that
// failed may have taken effect behind a stale cache, and want the hint. The
// caller holds the tenant's lock exclusively. t is nil if there is no tenant.
func (s *Store) DropHint(ctx context.Context, t *Record, h Hint) error {
	if err := s.Fence(ctx, t, h.TenantID); err != nil {
		return err
	}
	return s.deleteHint(ctx, h)
}

// Fence makes sure that the record is what was read. t is nil if there was none.
func (s *Store) Fence(ctx context.Context, t *Record, tenantID string) error {
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
