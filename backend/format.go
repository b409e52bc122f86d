// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package backend

import "context"

// mayWork fails with storage.ErrNewer where the background must leave storage alone, and
// with another error until that is known. On a node that may not write nothing does, and
// storage is not even read for it.
func (b *backend) mayWork(ctx context.Context) error {
	if !b.WriteSafeReplicationState() {
		return nil
	}
	return b.settings.CheckFormat(ctx)
}
