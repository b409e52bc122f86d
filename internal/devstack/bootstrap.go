// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package devstack

import (
	"context"
	"errors"
	"os/exec"
	"path/filepath"
	"syscall"
)

// bootstrap runs the script that sets up production too. The log it writes has
// no secrets: it says what changed.
func (s *Stack) bootstrap(ctx context.Context) error {
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
	cmd.Env = childEnv(
		"HOME="+s.opts.DataDir, // not the user's token and configuration
		"VAULT_ADDR="+s.VaultAddr(),
		"VAULT_TOKEN="+s.creds.RootToken,
		"VAULT_BIN="+s.opts.VaultBin,
		"PLUGIN_FILE="+s.pluginPath(),
		"DEK_MOUNT="+Mount,
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
	if !cmd.ProcessState.Success() {
		return script.failure(errors.New("set up Vault with bootstrap.sh"))
	}
	return nil
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
