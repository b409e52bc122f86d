// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package bootstrap_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// runArguments runs the script with a vault command that always fails, and returns what
// the script printed and whether it got as far as calling that command.
func runArguments(t *testing.T, env ...string) (string, bool) {
	t.Helper()
	vault := filepath.Join(t.TempDir(), "vault")
	require.NoError(t, os.WriteFile(vault, []byte("#!/bin/sh\n: >\"$0.called\"\nexit 2\n"), 0o700))
	cmd := exec.Command("./bootstrap.sh")
	cmd.Env = append([]string{"PATH=" + os.Getenv("PATH"), "VAULT_BIN=" + vault, "PLUGIN_FILE=" + vault}, env...)
	out, err := cmd.CombinedOutput()
	require.Error(t, err, "%s", out)
	_, err = os.Stat(vault + ".called")
	return string(out), err == nil
}

// refuses has the script refuse a variable before it asks Vault anything.
func refuses(t *testing.T, rule string, env ...string) {
	t.Helper()
	out, called := runArguments(t, env...)
	assert.Contains(t, out, "bootstrap: "+rule, env)
	assert.False(t, called, "%q: Vault was called", env)
}

// accepts has the script go on to ask Vault.
func accepts(t *testing.T, env ...string) {
	t.Helper()
	out, called := runArguments(t, env...)
	assert.True(t, called, "%q: %s", env, out)
}

// TestAudiences has lists with an empty element, as which Vault binds what no JWT has.
func TestAudiences(t *testing.T) {
	for _, audiences := range []string{",", "a,", ",a", "a,,b", " ", "a, ,b", "a,\t"} {
		refuses(t, "JWT_AUDIENCE is audiences separated by commas, none of them empty: "+audiences, "JWT_AUDIENCE="+audiences)
	}
	for _, audiences := range []string{"", "a", "a,b", "a, b", "https://dek.example/?a=b,c d"} {
		accepts(t, "JWT_AUDIENCE="+audiences)
	}
}
