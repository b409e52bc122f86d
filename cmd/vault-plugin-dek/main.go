// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

// Command vault-plugin-dek is the secrets engine as a Vault plugin. Vault starts
// it; run by hand it has nothing to talk to, but for -version and -install.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/vault/api"
	"github.com/hashicorp/vault/sdk/plugin"

	"github.com/vault-plugin-dek/vault-plugin-dek/backend"
	"github.com/vault-plugin-dek/vault-plugin-dek/internal/parent"
	"github.com/vault-plugin-dek/vault-plugin-dek/internal/version"
)

func main() {
	logger := hclog.New(&hclog.LoggerOptions{Name: "vault-plugin-dek", Level: hclog.Trace, JSONFormat: true})
	err := run(os.Args[1:], logger)
	switch {
	case err == nil, errors.Is(err, flag.ErrHelp), errors.Is(err, errInstalled):
	case errors.Is(err, errVersion):
		fmt.Println(version.Line("vault-plugin-dek"))
	default:
		logger.Error("plugin ended", "error", err)
		os.Exit(1)
	}
}

// errVersion ends the command that was asked for its version.
var errVersion = errors.New("asked for the version")

// run serves until Vault ends the process. One process serves all mounts.
func run(args []string, logger hclog.Logger) error {
	meta := &api.PluginAPIClientMeta{}
	flags := meta.FlagSet()
	show := flags.Bool("version", false, "print version and commit, and exit")
	directory := flags.String("install", "", "copy the program into this plugin `directory`, under a name with its version, and exit")
	sockets := flags.String("provider-sockets", "",
		"directory below which the Unix sockets of key providers of type kmsv2 must lie; empty: such providers are refused")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if *show {
		return errVersion
	}
	if *directory != "" {
		file, err := install(*directory)
		if err != nil {
			return fmt.Errorf("install: %w", err)
		}
		fmt.Println(version.SHA256(), file)
		return errInstalled
	}
	logger.Info("plugin starts", "version", version.Version(), "commit", version.Commit())
	go endWithServer()
	paceCollector()
	return plugin.ServeMultiplex(&plugin.ServeOpts{
		BackendFactoryFunc: backend.FactoryWith(backend.Options{Providers: backend.ProviderSurroundings{Sockets: *sockets}}),
		TLSProviderFunc:    api.VaultPluginTLSProvider(meta.GetTLSConfig()),
	})
}

// endWithServer ends the process, with the keys that it has opened, once its server is
// gone. Nothing can be stored any more, and nobody reads a log.
func endWithServer() {
	if parent.Gone(context.Background()) {
		os.Exit(1)
	}
}
