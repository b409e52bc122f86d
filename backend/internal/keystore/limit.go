// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package keystore

import (
	"context"
	"maps"
	"sync"

	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/keyring"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/storage"
)

// overLimit has the keys that a reservation of this process has found over their usage
// limit (NIST SP 800-57). Those are all such keys in use: after a start nothing is
// sealed before the next reservation.
type overLimit struct {
	mu       sync.Mutex
	byTenant map[string]string // to the key ID of the version
}

func (k *overLimit) add(tenantID, keyID string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.byTenant == nil {
		k.byTenant = map[string]string{}
	}
	k.byTenant[tenantID] = keyID
}

// OverLimit returns the tenants that have lately sealed with a key over its usage
// limit, with the key ID of its version.
func (s *Store) OverLimit() map[string]string {
	s.seals.overLimit.mu.Lock()
	defer s.seals.overLimit.mu.Unlock()
	return maps.Clone(s.seals.overLimit.byTenant)
}

// ForgetOverLimit forgets that a key of a tenant, which seals no more, is over its
// usage limit. Another key of the tenant that is over it stays.
func (s *Store) ForgetOverLimit(tenantID, keyID string) {
	s.seals.overLimit.mu.Lock()
	defer s.seals.overLimit.mu.Unlock()
	if s.seals.overLimit.byTenant[tenantID] == keyID {
		delete(s.seals.overLimit.byTenant, tenantID)
	}
}

// IsOverLimit reports whether a key of v has reserved so many seals that it is to be
// rotated away, or whether it cannot be told how many.
func (s *Store) IsOverLimit(ctx context.Context, o keyring.Owner, v *keyring.Version) (bool, error) {
	if v.KeyType != keyring.AES256GCM {
		return false, nil
	}
	r, err := s.readSeals(ctx, o.Incarnation, v.KeyID)
	if storage.IsDamaged(err) {
		return true, nil
	}
	return max(r.Page, r.External) >= s.seals.limits.Soft, err
}
