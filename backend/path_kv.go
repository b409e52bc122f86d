// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package backend

import (
	"github.com/hashicorp/vault/sdk/framework"

	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/api/kv"
)

// kvPaths are the items once more, for clients of KV version 2.
func (b *backend) kvPaths() []*framework.Path {
	rooms := kv.Rooms{Operations: b.Operations, Tenants: b.tenants, Items: b.items, Limiter: &b.limiter, Now: b.now}
	return rooms.Paths()
}
