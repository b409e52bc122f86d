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

// runServerCheck runs the script's check_server with a vault command that says it is
// of that version, and answers a body of many strings so.
func runServerCheck(t *testing.T, version, strings string) string {
	t.Helper()
	vault := filepath.Join(t.TempDir(), "vault")
	require.NoError(t, os.WriteFile(vault, []byte(`#!/bin/sh
case $1 in
status) printf 'Key      Value\n---      -----\nVersion  %s\n' "$SERVER_VERSION" ;;
write)
	tr -cd '"' | wc -c >"$0.quotes"
	[ -z "$SERVER_STRINGS" ] || { echo "$SERVER_STRINGS" >&2; exit 2; }
	;;
esac
`), 0o700))
	cmd := exec.Command("sh", "-euc", ". lib/vault.sh; . lib/server.sh; check_server")
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "VAULT_BIN=" + vault, "SERVER_VERSION=" + version, "SERVER_STRINGS=" + strings}
	out, err := cmd.CombinedOutput()
	require.NoError(t, err, "%s", out)
	quotes, err := os.ReadFile(vault + ".quotes")
	require.NoError(t, err)
	assert.Contains(t, string(quotes), "2202", "1,100 paths and the field's name")
	return string(out)
}

// TestServersThatTakePatterns has the versions around those that refuse a wildcard
// in a template: Vault 2.0.1, Enterprise 1.21.6, OpenBao 2.6.
func TestServersThatTakePatterns(t *testing.T) {
	for version, want := range map[string]string{
		"1.21.4": "note: server 1.21.4 takes patterns", "1.9.0": "takes patterns", "1.20.12": "takes patterns", "1.15.0+ent": "takes patterns",
		"1.21.5+ent": "takes patterns", "1.21.6+ent": "", "1.21.10+ent": "", "1.21.6": "takes patterns", "1.21.10": "takes patterns",
		"1.22.0+ent": "", "2.0.0": "takes patterns", "2.0.0-HEAD": "takes patterns", "2.0.1": "if it is OpenBao, server 2.0.1 takes", "2.0.3": "if it is OpenBao",
		"2.1.0": "if it is OpenBao", "2.5.5": "if it is OpenBao", "2.6.0": "", "2.10.0": "", "3.0.0": "",
	} {
		out := runServerCheck(t, version, "")
		if want == "" {
			assert.Empty(t, out, version)
		} else {
			assert.Contains(t, out, want, version)
		}
	}
}

// TestServersThatTakeFewStrings has OpenBao's listener as it is by default.
func TestServersThatTakeFewStrings(t *testing.T) {
	out := runServerCheck(t, "2.6.0", "Code: 400. Errors: * failed to parse JSON: too many strings")
	assert.Contains(t, out, "max_request_json_strings")
	assert.Contains(t, out, "too many strings")
}
