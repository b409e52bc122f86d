// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

//go:build acceptance

package acceptance

import (
	"context"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/vault-plugin-dek/vault-plugin-dek/internal/compatibility"
	"github.com/vault-plugin-dek/vault-plugin-dek/internal/devstack"
)

// didNotRun says that something is missing that scripts/kv_clients.sh installs.
func didNotRun(t *testing.T, what string) {
	t.Helper()
	if os.Getenv("CI") == "true" {
		t.Fatal(what + " is missing: run scripts/kv_clients.sh")
	}
	t.Skip(what + " is missing: run scripts/kv_clients.sh; this test did not run")
}

// TestKVPythonClient runs hvac at both mounts, and compares what it sees.
func TestKVPythonClient(t *testing.T) {
	for _, python := range []string{"python3", "/usr/bin/python3"} {
		version, err := exec.CommandContext(t.Context(), python, "-c", "import hvac, importlib.metadata as m; print(m.version('hvac'))").Output()
		if err == nil {
			compatibility.Ran(t, "hvac", compatibility.VersionIn(version), false)
			sameProgram(t, 19, nil, python, "kv_hvac.py")
			return
		}
	}
	didNotRun(t, "hvac")
}

// TestKVNodeClient does so with node-vault.
func TestKVNodeClient(t *testing.T) {
	root, err := devstack.RepoRoot()
	require.NoError(t, err)
	modules := filepath.Join(root, "bin", "node", "node_modules")
	about, err := os.ReadFile(filepath.Join(modules, "node-vault", "package.json"))
	if err != nil {
		didNotRun(t, "node-vault")
	}
	var module struct{ Version string }
	require.NoError(t, json.Unmarshal(about, &module))
	compatibility.Ran(t, "node-vault", module.Version, false)
	sameProgram(t, 15, []string{"NODE_PATH=" + modules}, "node", "kv_node.js")
}

// sameProgram runs a program of testdata at both mounts and compares the lines that it
// prints, of which there are as many as it makes calls.
func sameProgram(t *testing.T, calls int, env []string, interpreter, program string) {
	t.Helper()
	m := withKV(t, shared(t))
	run := func(mount string) []string {
		ctx, cancel := context.WithTimeout(t.Context(), rotationLimit)
		defer cancel()
		cmd := exec.CommandContext(ctx, interpreter, filepath.Join("testdata", program))
		cmd.Env = append([]string{
			"PATH=" + os.Getenv("PATH"), "HOME=" + t.TempDir(), "VAULT_ADDR=" + m.s.VaultAddr(), "VAULT_TOKEN=" + m.s.RootToken(),
			"KV_MOUNT=" + mount, "KV_FOLDER=" + m.tenant + "/secrets/app", "KV_NAME=" + m.tenant + "/secrets/app/db",
		}, env...)
		out, err := cmd.CombinedOutput()
		require.NoError(t, err, "%s", out)
		return strings.Split(strings.TrimSpace(strings.ReplaceAll(string(out), mount, "MOUNT")), "\n")
	}
	theirs := run(m.theirs)
	require.Len(t, theirs, calls)
	assert.Equal(t, theirs, run(m.ours))
}
