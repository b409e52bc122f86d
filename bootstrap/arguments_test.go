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

// TestDurations has what Vault would refuse in the middle of the run, and what it takes
// for something else: 0 and half a second.
func TestDurations(t *testing.T) {
	for _, variable := range []string{"JWT_TOKEN_TTL", "USERPASS_TTL", "USERPASS_MAX_TTL"} {
		for _, ttl := range []string{
			"soon", "0", "0h", "-1", "1.5h", "500ms", "30 m", "m", "5m3", "1d12h", "12h1d", "1w", "30M", "30m\n", "system",
			"106752d", "99999999999999999999", "9999999999999999999999h",
		} {
			refuses(t, variable+" is a duration above 0, in seconds (900), with the units h, m and s (30m, 1h30m) or in days (7d): "+ttl, variable+"="+ttl)
		}
		for _, ttl := range []string{"", "1", "900", "1s", "08m", "1h30m", "1h30m10s", "7d", "106751d", "9223372036"} {
			accepts(t, variable+"="+ttl)
		}
	}
	for _, c := range [][2]string{{"61", "1m"}, {"2h", "1h59m59s"}, {"8d", "7d"}} {
		refuses(t, "USERPASS_TTL must not be above USERPASS_MAX_TTL: "+c[0]+" is more than "+c[1], "USERPASS_TTL="+c[0], "USERPASS_MAX_TTL="+c[1])
	}
	for _, c := range [][2]string{{"60", "1m"}, {"90m", "1h30m"}, {"24h", "1d"}} {
		accepts(t, "USERPASS_TTL="+c[0], "USERPASS_MAX_TTL="+c[1])
	}
}

// TestMounts has paths that the vault command makes others of.
func TestMounts(t *testing.T) {
	for _, variable := range []string{"DEK_MOUNT", "JWT_MOUNT", "USERPASS_MOUNT"} {
		for _, path := range []string{
			"../x", "..", ".", "./x", "x/.", "x/..", "x/../y", "x/./y", "x//y", "/", "//", "/x", "x/", "x y", "x|y", "x\ny", "é",
		} {
			refuses(t, variable+" is parts of A-Z a-z 0-9 . _ - with / in between, none of them empty, . or ..: "+path, variable+"="+path)
		}
		for _, path := range []string{"", "x", "team/x", "a/b/c", ".x", "x.", "..x", "x../...", "A_b-c.9"} {
			accepts(t, variable+"="+path)
		}
	}
	for _, variable := range []string{"JWT_ROLE", "PLUGIN_NAME"} {
		for _, name := range []string{".", "..", "a/b", "a b", "-dek", "dek."} {
			refuses(t, variable+" may hold A-Z a-z 0-9 . _ -, and neither begins nor ends with . or -: "+name, variable+"="+name)
		}
		accepts(t, variable+"=a.B_c-9")
	}
}
