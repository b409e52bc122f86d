// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

// Command dek-proxy serves the documented legacy REST calls in front of a Vault
// that runs the DEK secrets engine. See docs/proxy.md.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"

	"github.com/hashicorp/go-hclog"

	"github.com/vault-plugin-dek/vault-plugin-dek/proxy"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, os.Args[1:], os.LookupEnv, os.Stderr)
	stop()
	switch {
	case err == nil, errors.Is(err, flag.ErrHelp):
	case errors.Is(err, errUsage):
		fmt.Fprintln(os.Stderr, "dek-proxy:", err)
		os.Exit(2)
	default:
		fmt.Fprintln(os.Stderr, "dek-proxy:", err)
		os.Exit(1)
	}
}

// run serves until ctx ends. Logs and the help text go to out.
func run(ctx context.Context, args []string, env func(string) (string, bool), out io.Writer) error {
	opts, err := parseOptions(args, env, out)
	if err != nil {
		return err
	}
	log := hclog.New(&hclog.LoggerOptions{
		Name: "dek-proxy", Level: hclog.LevelFromString(opts.logLevel), Output: out, JSONFormat: true,
	})
	vaults, err := opts.vaults()
	if err != nil {
		return err
	}
	handler, err := proxy.New(proxy.Config{
		Realms: vaults, RequestTimeout: opts.requestTimeout(),
		PublicURL: opts.publicURL, CacheSize: opts.cacheSize, Logger: log,
	})
	if err != nil {
		return err
	}
	return serve(ctx, opts, handler, log)
}
