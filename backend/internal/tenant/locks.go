// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package tenant

import (
	"github.com/hashicorp/vault/sdk/helper/locksutil"
)

// AwaitLocks takes and releases the lock of every tenant once. A caller that makes a key
// holds its tenant's lock from before the key is wrapped until the record is put. So after
// this call everything that was wrapped under a KEK that this process read before it is
// stored, the key and the record of the tenant that it was made for, and shows in a List.
func (s *Store) AwaitLocks() {
	for _, l := range s.locks {
		l.Lock()
		l.Unlock() //nolint:staticcheck // to have held it is all
	}
}

// Shared takes the tenant's lock shared and returns what releases it. Other
// tenants may share the same lock: hold one at a time.
func (s *Store) Shared(tenantID string) (release func()) {
	l := locksutil.LockForKey(s.locks, tenantID)
	l.RLock()
	return l.RUnlock
}

// Exclusive takes the tenant's lock exclusively and returns what releases it.
func (s *Store) Exclusive(tenantID string) (release func()) {
	l := locksutil.LockForKey(s.locks, tenantID)
	l.Lock()
	return l.Unlock
}
