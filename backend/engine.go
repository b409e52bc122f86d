// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package backend

import (
	"context"
	"time"

	"github.com/hashicorp/vault/sdk/logical"

	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/deletion"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/itemstore"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/jobs"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/kekrotation"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/keyring"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/keystore"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/ledger"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/provider"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/rotation"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/schedule"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/tenant"
)

// Options replaces what an engine takes from its surroundings. The zero value is what
// Factory uses.
type Options struct {
	// Clock tells the time. Nil is time.Now.
	Clock func() time.Time
	// NewWrappingKey makes the private key that unwraps imported keys. Nil is
	// keyring.NewWrappingKey, which takes a second or so.
	NewWrappingKey func() ([]byte, error)
	// Providers are what key providers use of the process.
	Providers ProviderSurroundings
}

// ProviderSurroundings are what key providers use of the process.
type ProviderSurroundings = provider.Surroundings

// Engine is the backend of one mount together with its rooms, so that a caller of New
// can look behind the paths.
type Engine struct {
	*backend

	Keys      *keystore.Store
	Tenants   *tenant.Store
	Items     *itemstore.Store
	Rotations *rotation.Engine
	Deletion  *deletion.Engine
	KEK       *kekrotation.Engine
	Schedule  *schedule.Engine
	Jobs      *jobs.Runner
	Ledger    *ledger.Ledger
	Providers *provider.Store
	Pages     *jobs.Semaphore // of the pages that may be in flight
}

// New makes the engine for one mount. It writes nothing: Vault refuses writes until
// the mount is set up.
func New(ctx context.Context, conf *logical.BackendConfig, opt Options) (*Engine, error) {
	if opt.Clock == nil {
		opt.Clock = time.Now
	}
	if opt.NewWrappingKey == nil {
		opt.NewWrappingKey = keyring.NewWrappingKey
	}
	b, err := newBackend(ctx, conf, opt)
	if err != nil {
		return nil, err
	}
	return &Engine{
		backend: b, Keys: b.keys, Tenants: b.tenants, Items: b.items, Rotations: b.rotations,
		Deletion: b.deletion, KEK: b.kek, Schedule: b.schedule, Jobs: b.jobs, Ledger: b.ledger, Pages: b.pages,
		Providers: b.providers,
	}, nil
}
