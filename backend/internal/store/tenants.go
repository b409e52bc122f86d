// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package store

import (
	"context"
	"fmt"
	"slices"
	"sync"

	"golang.org/x/sync/errgroup"
)

// listsInFlight bounds the List calls made at once for one list of tenants.
const listsInFlight = 16

// Tenant reads the record of a tenant, which is shared: to change it, clone it.
// It fails with [ErrTenantNotFound].
func (s *Store) Tenant(ctx context.Context, tenantID string) (*Tenant, error) {
	t, generation := s.records.get(tenantID)
	if t != nil {
		return t, nil
	}
	t = new(Tenant)
	found, err := s.getJSON(ctx, tenantKey(tenantID), t)
	if err != nil {
		return nil, err
	}
	if !found {
		return nil, ErrTenantNotFound
	}
	if t.ID != tenantID {
		// The record leads to keys and pages: one that was moved here would open
		// another tenant's data under this one's name.
		return nil, fmt.Errorf("the record of tenant %s belongs to another tenant", tenantID)
	}
	s.records.keep(t, generation)
	return t, nil
}

// ActiveTenant reads the record of a tenant that can be used. It fails with
// [ErrTenantNotFound] or [ErrTenantDeleting].
func (s *Store) ActiveTenant(ctx context.Context, tenantID string) (*Tenant, error) {
	t, err := s.Tenant(ctx, tenantID)
	switch {
	case err != nil:
		return nil, err
	case t.State == TenantDeleting:
		return nil, ErrTenantDeleting
	case t.State != TenantActive:
		return nil, ErrTenantNotFound
	}
	return t, nil
}

// putTenant stores the record of a tenant: see Commit.
func (s *Store) putTenant(ctx context.Context, t *Tenant) error {
	defer s.records.drop(t.ID) // after the write, and after a failed one too
	return s.putJSON(ctx, tenantKey(t.ID), t)
}

// forgetTenant deletes the record of a tenant.
func (s *Store) forgetTenant(ctx context.Context, tenantID string) error {
	defer s.records.drop(tenantID)
	return s.delete(ctx, tenantKey(tenantID))
}

// TenantIDs lists the tenants, sorted.
func (s *Store) TenantIDs(ctx context.Context) ([]string, error) {
	var (
		mu  sync.Mutex
		ids []string
	)
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(listsInFlight)
	for i := range 256 {
		g.Go(func() error {
			found, err := s.storage.List(ctx, fmt.Sprintf("%s%02x/", tenantPrefix, i))
			if err != nil {
				return fmt.Errorf("listing tenants: %w", err)
			}
			mu.Lock()
			defer mu.Unlock()
			ids = append(ids, found...)
			return nil
		})
	}
	if err := g.Wait(); err != nil {
		return nil, err
	}
	slices.Sort(ids)
	return ids, nil
}
