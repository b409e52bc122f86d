// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

// Command dek works with the DEK secrets engine for people and jobs: it shows the
// fleet, rotates keys, encrypts files, brings ciphertexts that lie outside of Vault to
// the current version, and moves secrets from KV into a tenant. See docs/client.md.
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // after the user's first Ctrl-C the second one kills dek
	code := run(ctx, os.Args[1:], os.Stdin, os.Stdout, os.Stderr)
	stop()
	os.Exit(code)
}
