// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

// Package floorplugin is what the benchmarks measure the engine against: Vault
// plugins that take the same way through Vault and gRPC and do nothing but what
// cannot be left out. It is no part of what is shipped.
//
//   - The floor backend reads, writes and reads entries again through a
//     plugin's storage (the floor of a rotation), and answers requests like the
//     engine's with constants (the floor of a request).
//   - The loader is the engine itself over a storage that it buffers in memory,
//     so that a tenant of a million items is there in a minute.
package floorplugin

import (
	"context"
	"fmt"

	"github.com/hashicorp/vault/sdk/framework"
	"github.com/hashicorp/vault/sdk/logical"
	"github.com/hashicorp/vault/sdk/plugin"
)

// Arguments that Vault is told to start the benchmark's own binary with.
const (
	FloorArg  = "serve-floor-plugin"
	LoaderArg = "serve-loader-plugin"
)

// Serve runs as the plugin that arg names, until Vault ends the process.
func Serve(arg string) error {
	factories := map[string]logical.Factory{FloorArg: floor, LoaderArg: loader}
	factory, known := factories[arg]
	if !known {
		return fmt.Errorf("no plugin is called %q", arg)
	}
	return plugin.ServeMultiplex(&plugin.ServeOpts{BackendFactoryFunc: factory})
}

// floor makes the backend that storage and requests are measured against.
func floor(ctx context.Context, conf *logical.BackendConfig) (logical.Backend, error) {
	b := &framework.Backend{
		BackendType: logical.TypeLogical,
		Paths:       framework.PathAppend(storagePaths(), noopPaths()),
	}
	if err := b.Setup(ctx, conf); err != nil {
		return nil, err
	}
	return b, nil
}
