// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

// Command vault-plugin-dek is the secrets engine as a Vault plugin. Vault starts
// it; run by hand it has nothing to talk to.
package main

import (
	"os"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/vault/api"
	"github.com/hashicorp/vault/sdk/plugin"

	"github.com/vault-plugin-dek/vault-plugin-dek/backend"
)

func main() {
	logger := hclog.New(&hclog.LoggerOptions{Name: "vault-plugin-dek", Level: hclog.Trace, JSONFormat: true})
	if err := serve(os.Args[1:]); err != nil {
		logger.Error("plugin ended", "error", err)
		os.Exit(1)
	}
}

// serve runs until Vault ends the process. One process serves all mounts.
func serve(args []string) error {
	meta := &api.PluginAPIClientMeta{}
	if err := meta.FlagSet().Parse(args); err != nil {
		return err
	}
	return plugin.ServeMultiplex(&plugin.ServeOpts{
		BackendFactoryFunc: backend.Factory,
		TLSProviderFunc:    api.VaultPluginTLSProvider(meta.GetTLSConfig()),
	})
}
