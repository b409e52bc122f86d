// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package fleet

import (
	"context"
	"strings"
	"sync/atomic"

	"github.com/hashicorp/vault/sdk/logical"
	"github.com/hashicorp/vault/sdk/plugin"

	"github.com/vault-plugin-dek/vault-plugin-dek/backend"
)

// PluginArg is what Vault is told to start the benchmark's own binary with, with the
// number of tenants behind it.
const PluginArg = "serve-fleet-plugin"

// Serve runs as a plugin, until Vault ends the process: the engine over a mount that has
// so many tenants. Their records are made on demand, as for [Measure].
func Serve(tenants int) error {
	return plugin.ServeMultiplex(&plugin.ServeOpts{
		BackendFactoryFunc: func(ctx context.Context, conf *logical.BackendConfig) (logical.Backend, error) {
			s, err := New(ctx, tenants)
			if err != nil {
				return nil, err
			}
			over := *conf
			over.StorageView = &mounted{Storage: s, vault: conf.StorageView}
			engine, err := backend.Factory(ctx, &over)
			if err != nil {
				return nil, err
			}
			return &served{engine, over.StorageView}, nil
		},
	})
}

// mounted is a Storage whose reads cost what Vault's cost.
type mounted struct {
	*Storage
	vault logical.Storage
	reads atomic.Int64 // of records
}

// Get reads an entry, or makes it. Once each record has been read for the index, it asks
// Vault's storage for a record too, which has none: a request takes the way through gRPC as
// often as it does on a mount that holds its records.
func (m *mounted) Get(ctx context.Context, key string) (*logical.StorageEntry, error) {
	if strings.HasPrefix(key, "tenants/") && m.reads.Add(1) > int64(m.size) {
		if _, err := m.vault.Get(ctx, key); err != nil {
			return nil, err
		}
	}
	return m.Storage.Get(ctx, key)
}

// served is the engine, which gets the storage that it is over with each request.
type served struct {
	logical.Backend
	storage logical.Storage
}

// Initialize implements logical.Backend.
func (s *served) Initialize(ctx context.Context, req *logical.InitializationRequest) error {
	req.Storage = s.storage
	return s.Backend.Initialize(ctx, req)
}

// HandleRequest implements logical.Backend.
func (s *served) HandleRequest(ctx context.Context, req *logical.Request) (*logical.Response, error) {
	req.Storage = s.storage
	return s.Backend.HandleRequest(ctx, req)
}

// HandleExistenceCheck implements logical.Backend.
func (s *served) HandleExistenceCheck(ctx context.Context, req *logical.Request) (checkFound, exists bool, err error) {
	req.Storage = s.storage
	return s.Backend.HandleExistenceCheck(ctx, req)
}
