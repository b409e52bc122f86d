// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"github.com/vault-plugin-dek/vault-plugin-dek/internal/devstack"
)

// dev runs the stack until it is interrupted, which is how it is meant to end.
func dev(ctx context.Context, dir string, withFleet bool) error {
	if dir == "" {
		root, err := devstack.RepoRoot()
		if err != nil {
			return err
		}
		dir = filepath.Join(root, ".dev")
	}
	opts := devstack.Options{
		Storage: devstack.Storage(os.Getenv("DEV_STORAGE")),
		DataDir: dir,
		// The dates of the fleet are set back through it.
		RawStorage: withFleet,
	}
	var err error
	if opts.VaultPort, err = portFromEnv("DEV_PORT"); err != nil {
		return err
	}
	if opts.ProxyPort, err = portFromEnv("DEV_PROXY_PORT"); err != nil {
		return err
	}
	fmt.Println("Starting Vault with the plugin, and the proxy.")
	stack, err := devstack.Start(ctx, opts)
	switch {
	case err != nil && ctx.Err() != nil: // asked to stop before all was there
		fmt.Println("Stopped.")
		return nil //nolint:nilerr // being stopped is how dev ends
	case err != nil:
		return err
	}
	if err = serve(ctx, stack, withFleet); ctx.Err() != nil {
		err = nil // asked to stop, perhaps before the stack was filled
	}
	fmt.Println("Stopping.")
	return errors.Join(err, stack.Stop())
}

func portFromEnv(name string) (int, error) {
	value := os.Getenv(name)
	if value == "" {
		return 0, nil
	}
	port, err := strconv.ParseUint(value, 10, 16)
	if err != nil {
		return 0, fmt.Errorf("%s: %q is not a TCP port", name, value)
	}
	return int(port), nil
}

// serve fills the stack, says what there is, and waits for the end.
func serve(ctx context.Context, stack *devstack.Stack, withFleet bool) error {
	exists, err := stack.TenantExists(ctx, tenantID)
	if err != nil {
		return fmt.Errorf("look for the tenant: %w", err)
	}
	// A deletion here may be at once. An engine that does not know the field ignores
	// it, with a warning. While there is no tenant it takes effect at once.
	_, err = stack.Client().Logical().WriteWithContext(ctx, devstack.Mount+"/config",
		map[string]any{"min_deletion_window": "0s"})
	if err != nil {
		return fmt.Errorf("configure the engine: %w", err)
	}
	if !exists {
		if err := seed(ctx, stack, withFleet); err != nil {
			return err
		}
	}
	env, err := environment(stack)
	if err != nil {
		return err
	}
	if err := devstack.WriteFile(stack.EnvPath(), env); err != nil {
		return err
	}
	announce(stack)

	ticker := time.NewTicker(time.Second)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
			if err := stack.Alive(); err != nil {
				return err
			}
		}
	}
}

// seed fills an empty stack. The example tenant comes last: while it is missing, the stack
// is not filled. The stack is of use without a fleet, too.
func seed(ctx context.Context, stack *devstack.Stack, withFleet bool) error {
	if withFleet {
		if err := stack.SeedFleet(ctx); err != nil {
			if ctx.Err() != nil {
				return err
			}
			fmt.Println("The fleet is incomplete:", err)
		} else {
			fmt.Printf("Made %d tenants with keys of different ages. Dates in their records were set back in storage.\n", devstack.FleetSize)
		}
	}
	_, err := stack.Seed(ctx, tenantID)
	return err
}

// announce prints where everything is. No token, JWT or secret: those are in
// the file, and the commands name its variables.
func announce(stack *devstack.Stack) {
	fmt.Printf(`
Vault    %s  (engine at %s/, JWT logins at %s/)
Proxy    %s
Page     %[4]s/ui/  (sign in with a JWT or the token of the file below)
Tenant   %s  (25 credentials, 10 API keys, 50 secrets)
Logs     %s
         %s

Tokens and addresses are in %s. In another terminal:

  . %[8]s

  curl --request POST \
    --url "$DEK_PROXY_ADDR/api/v1/admin/dek/rotate" \
    --header 'accept: application/json' \
    --header "authorization: Bearer $DEK_JWT_SECURITY_ADMIN" \
    --header 'content-type: application/json' \
    --header "x-tenantid: $DEK_TENANT_ID" \
    --data "{
      \"tenantId\": \"$DEK_TENANT_ID\"
    }"

  curl "$DEK_PROXY_ADDR/public/core/v3/key/rotationSettings" \
    --header "INFA-SESSION-ID: $DEK_JWT_KEY_ADMIN"

  vault write -f dek/tenants/$DEK_TENANT_ID/dek/rotate
  vault read -format=json dek/tenants/$DEK_TENANT_ID/dek
  vault patch dek/key/rotationSettings rotation_interval=120_DAYS

Ctrl-C stops everything.
`, stack.VaultAddr(), devstack.Mount, devstack.JWTMount, stack.ProxyURL(), tenantID,
		relative(stack.LogPath("vault")), relative(stack.LogPath("proxy")), relative(stack.EnvPath()))
}

// relative is the path as one would type it here.
func relative(path string) string {
	wd, err := os.Getwd()
	if err != nil {
		return path
	}
	rel, err := filepath.Rel(wd, path)
	if err != nil {
		return path
	}
	return rel
}
