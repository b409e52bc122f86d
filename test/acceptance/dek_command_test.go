// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

//go:build acceptance

package acceptance

import (
	"bytes"
	"errors"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/vault-plugin-dek/vault-plugin-dek/internal/devstack"
)

// dekProgram is the command dek, built by the test.
type dekProgram struct {
	t    *testing.T
	path string
	env  []string // beside the server and the token
}

func buildDek(t *testing.T) dekProgram {
	t.Helper()
	root, err := devstack.RepoRoot()
	require.NoError(t, err)
	d := dekProgram{t: t, path: filepath.Join(t.TempDir(), "dek")}
	build := exec.CommandContext(t.Context(), "go", "build", "-o", d.path, "./cmd/dek")
	build.Dir = root
	out, err := build.CombinedOutput()
	require.NoError(t, err, string(out))
	return d
}

// command is a command line, with this token; without a stack it has no Vault at all.
func (d dekProgram) command(s *devstack.Stack, token string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(d.t.Context(), d.path, args...)
	cmd.Env = []string{"HOME=" + d.t.TempDir(), "VAULT_ADDR=http://127.0.0.1:1"}
	if s != nil {
		cmd.Env = append(cmd.Env, "VAULT_ADDR="+s.VaultAddr(), "VAULT_TOKEN="+token)
	}
	cmd.Env = append(cmd.Env, d.env...)
	return cmd
}

// run runs a command line to its end.
func (d dekProgram) run(s *devstack.Stack, token string, args ...string) (code int, stdout, stderr string) {
	d.t.Helper()
	cmd := d.command(s, token, args...)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		require.NoError(d.t, err)
	}
	return cmd.ProcessState.ExitCode(), out.String(), errs.String()
}

// dekCommand builds the command dek and returns what runs it: with the stack's root
// token, or, without a stack, with no Vault at all.
func dekCommand(t *testing.T) func(s *devstack.Stack, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	d := buildDek(t)
	return func(s *devstack.Stack, args ...string) (int, string, string) {
		if s == nil {
			return d.run(nil, "", args...)
		}
		return d.run(s, s.RootToken(), args...)
	}
}
