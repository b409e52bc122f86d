// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package backend

import (
	"github.com/hashicorp/vault/sdk/framework"

	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/api/fleet"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/api/metrics"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/holders"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/kekrotation"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/ledger"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/rotation"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/schedule"
	"github.com/vault-plugin-dek/vault-plugin-dek/internal/version"
)

// fleetPaths are those about many tenants at once.
func (b *backend) fleetPaths() []*framework.Path {
	many := fleet.Rooms{Operations: b.Operations, Tenants: b.tenants, Schedule: b.scheduler}
	figures := metrics.Rooms{
		Operations: b.Operations, Keys: b.keys, Tenants: b.tenants, Items: b.items, Encryption: b.encryption,
		Rotations: func() *rotation.Engine { return b.rotations },
		KEK:       func() *kekrotation.Engine { return b.kek },
		Schedule:  b.scheduler,
		Holders:   func() *holders.Engine { return b.holders },
		Providers: b.providers,
		Ledger:    func() *ledger.Ledger { return b.ledger },
		Version:   Version, Commit: version.Commit(),
	}
	return append(many.Paths(), figures.Path())
}

func (b *backend) scheduler() *schedule.Engine { return b.schedule }
