// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package tenant

import (
	"github.com/hashicorp/vault/sdk/helper/locksutil"
)

// AwaitHolders returns when everything that was wrapped under a KEK that this process
// read before the call is stored, and shows in a List: the key, and the record of the
// tenant that it was made for. A caller that makes a key holds its tenant's lock from
// before it is wrapped until the record is put, so holding each lock once is enough.
func (s *Store) AwaitHolders() {
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
