// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package store

import (
	"context"
	"errors"
	"fmt"

	"github.com/hashicorp/vault/sdk/helper/jsonutil"

	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/keyring"
)

// What callers tell apart.
var (
	ErrTenantNotFound = errors.New("tenant not found")
	ErrTenantDeleting = errors.New("tenant is being deleted")
)

// Tenant reads the record of a tenant, which is shared: to change it, clone it.
// It fails with [ErrTenantNotFound].
func (s *Store) Tenant(ctx context.Context, tenantID string) (*Tenant, error) {
	t, generation := s.records.get(tenantID)
	if t != nil {
		return t, nil
	}
	t, err := s.readTenant(ctx, tenantID)
	if err != nil {
		return nil, err
	}
	s.records.keep(t, generation)
	return t, nil
}

// errRecord reports a record that is there and cannot be used.
var errRecord = errors.New("the tenant's record is damaged")

// readTenant is Tenant, from storage, and keeps nothing in memory.
func (s *Store) readTenant(ctx context.Context, tenantID string) (*Tenant, error) {
	t := new(Tenant)
	value, err := s.mount.Get(ctx, tenantKey(tenantID))
	if err != nil {
		return nil, fmt.Errorf("reading %s: %w", tenantKey(tenantID), err)
	}
	if value == nil {
		return nil, ErrTenantNotFound
	}
	if err := jsonutil.DecodeJSON(value, t); err != nil {
		return nil, fmt.Errorf("%w: decoding %s: %w", errRecord, tenantKey(tenantID), err)
	}
	if t.ID != tenantID {
		// The record leads to keys and pages: one that was moved here would open
		// another tenant's data under this one's name.
		return nil, fmt.Errorf("%w: that of tenant %s belongs to another tenant", errRecord, tenantID)
	}
	if t.State == TenantActive && t.Keys.Match(func(v *keyring.Version) bool { return v.State == keyring.Active }) == nil {
		return nil, fmt.Errorf("%w: that of tenant %s has no active version", errRecord, tenantID)
	}
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
	err := s.mount.PutJSON(ctx, tenantKey(t.ID), t)
	s.records.drop(t.ID) // after a failed write, too
	s.roll.note(t.ID, true, err)
	return err
}

// forgetTenant deletes the record of a tenant.
func (s *Store) forgetTenant(ctx context.Context, tenantID string) error {
	err := s.mount.Delete(ctx, tenantKey(tenantID))
	s.records.drop(tenantID)
	s.roll.note(tenantID, false, err)
	return err
}
