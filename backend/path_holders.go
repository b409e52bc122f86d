// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package backend

import (
	"context"

	"github.com/hashicorp/vault/sdk/framework"

	holderpaths "github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/api/holders"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/holders"
)

// holderPaths are those of the places that keep ciphertexts.
func (b *backend) holderPaths() []*framework.Path {
	rooms := holderpaths.Rooms{
		Operations: b.Operations, Duration: durationOf,
		Engine: func() *holders.Engine { return b.holders },
	}
	return rooms.Paths()
}

// buildHolders makes the room of the places that keep ciphertexts.
func (b *backend) buildHolders() {
	b.holders = holders.NewEngine(holders.Config{
		Settings: b.settings, Keys: b.keys, Tenants: b.tenants, Ledger: b.ledger, Now: b.now,
		Jobs: b.jobs, Log: b.Logger(),
	})
}

// tried is [holders.Engine.Tried], for a room that is made before that one.
func (b *backend) tried(ctx context.Context, tenantID string, versions []int) error {
	return b.holders.Tried(ctx, tenantID, versions)
}
