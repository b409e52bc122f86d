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

// Tenant reads the record of a tenant. It fails with [ErrTenantNotFound].
func (s *Store) Tenant(ctx context.Context, tenantID string) (*Tenant, error) {
	t := new(Tenant)
	found, err := s.getJSON(ctx, tenantKey(tenantID), t)
	if err != nil {
		return nil, err
	}
	if !found {
		return nil, ErrTenantNotFound
	}
	return t, nil
}

// PutTenant stores the record of a tenant: the commit point of every change.
// The caller holds the tenant's lock exclusively.
func (s *Store) PutTenant(ctx context.Context, t *Tenant) error {
	return s.putJSON(ctx, tenantKey(t.ID), t)
}

// ForgetTenant deletes the record of a tenant that was read as absent, so that
// a Put of it that failed cannot come to light later.
func (s *Store) ForgetTenant(ctx context.Context, tenantID string) error {
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
