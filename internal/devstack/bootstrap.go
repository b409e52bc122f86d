// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package devstack

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"path/filepath"
	"syscall"
)

// exitReadOnly is how bootstrap.sh ends when Vault holds the mount read-only, since
// it took it up while its plugin could not be started.
const exitReadOnly = 3

// errReadOnly is that outcome. Only taking the mount up anew helps.
var errReadOnly = errors.New("the mount can be read but not written")

// bootstrap sets Vault up. Where the mount is read-only, because a file in the
// plugin directory is gone or was written over, it seals and unseals Vault once, as
// the script asks for. A node of a cluster is left to who runs the cluster.
func (s *Stack) bootstrap(ctx context.Context) error {
	if err := s.setUp(ctx); err != nil {
		return err
	}
	// Tests and developers delete at once.
	_, err := s.Client().Logical().WriteWithContext(ctx, Mount+"/config", map[string]any{"min_deletion_window": "0s"})
	return err
}

// setUp runs bootstrap.sh.
func (s *Stack) setUp(ctx context.Context) error {
	err := s.runBootstrap(ctx)
	if errors.Is(err, errReadOnly) && !s.member {
		if err := s.Client().Sys().SealWithContext(ctx); err != nil {
			return fmt.Errorf("seal Vault: %w", err)
		}
		if err := s.unseal(ctx); err != nil {
			return err
		}
		err = s.runBootstrap(ctx)
	}
	if err != nil {
		return err
	}
	return s.prunePlugins()
}

// runBootstrap runs the script that sets up production too. The log it writes has
// no secrets: it says what changed. Nobody but the stack has made anything in this
// Vault, so what an earlier version of the script left is taken over.
func (s *Stack) runBootstrap(ctx context.Context) error {
	root, err := RepoRoot()
	if err != nil {
		return err
	}
	pem, err := s.signer.publicPEM()
	if err != nil {
		return err
	}
	if err := WriteFile(s.path("jwt-public.pem"), pem); err != nil {
		return err
	}
	cmd := exec.CommandContext(ctx, filepath.Join(root, "bootstrap", "bootstrap.sh")) // #nosec G204 -- of the repository
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.Env = s.childEnv(
		"FORCE=1",
		"HOME="+s.opts.DataDir, // not the user's token and configuration
		"VAULT_ADDR="+s.VaultAddr(),
		"VAULT_TOKEN="+s.creds.RootToken,
		"VAULT_BIN="+s.opts.VaultBin,
		"PLUGIN_FILE="+s.pluginFile,
		"PROVIDER_SOCKETS="+s.opts.ProviderSockets,
		"DEK_MOUNT="+Mount,
		"DEK_ROLES="+roles,
		"NAME_PREFIX="+s.opts.NamePrefix,
		"JWT_MOUNT="+JWTMount,
		"JWT_ROLE="+JWTRole,
		"JWT_PUBKEY_FILE="+s.path("jwt-public.pem"),
		"JWT_ISSUER="+jwtIssuer,
		"JWT_AUDIENCE="+jwtAudience,
	)
	script, err := s.startProcess("bootstrap", cmd)
	if err != nil {
		return err
	}
	<-script.exited
	switch {
	case cmd.ProcessState.Success():
		return nil
	case cmd.ProcessState.ExitCode() == exitReadOnly:
		return script.failure(fmt.Errorf("set up Vault with bootstrap.sh: %w", errReadOnly))
	default:
		return script.failure(errors.New("set up Vault with bootstrap.sh"))
	}
}

// Bootstrap runs bootstrap.sh again, as an operator would after putting a new
// plugin in place.
func (s *Stack) Bootstrap(ctx context.Context) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.installPlugin(); err != nil {
		return err
	}
	return s.bootstrap(ctx)
}
