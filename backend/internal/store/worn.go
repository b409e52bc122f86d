// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package store

import (
	"context"
	"maps"
	"sync"

	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/keyring"
)

// wornKeys are those that reservations in this process have found worn, which is
// every worn key that is in use: after a start nothing is sealed before the next
// reservation.
type wornKeys struct {
	mu       sync.Mutex
	byTenant map[string]string // to the key ID of the version
}

func (k *wornKeys) add(tenantID, keyID string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.byTenant == nil {
		k.byTenant = map[string]string{}
	}
	k.byTenant[tenantID] = keyID
}

// WornKeys returns the tenants that have lately sealed with a key that is worn,
// with the key ID of its version.
func (s *Store) WornKeys() map[string]string {
	s.seals.worn.mu.Lock()
	defer s.seals.worn.mu.Unlock()
	return maps.Clone(s.seals.worn.byTenant)
}

// ForgetWorn forgets that a key of a tenant is worn, which does not seal any
// more. Another key of it that is worn stays.
func (s *Store) ForgetWorn(tenantID, keyID string) {
	s.seals.worn.mu.Lock()
	defer s.seals.worn.mu.Unlock()
	if s.seals.worn.byTenant[tenantID] == keyID {
		delete(s.seals.worn.byTenant, tenantID)
	}
}

// Worn reports whether a key of v has reserved so many seals that it is to be
// rotated away.
func (s *Store) Worn(ctx context.Context, o keyring.Owner, v *keyring.Version) (bool, error) {
	if v.KeyType != keyring.AES256GCM {
		return false, nil
	}
	r, err := s.readSeals(ctx, o.Incarnation, v.KeyID)
	return max(r.Page, r.External) >= s.seals.limits.Soft, err
}
