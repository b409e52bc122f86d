// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

//go:build acceptance

package acceptance

import (
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/uuid"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/vault-plugin-dek/vault-plugin-dek/internal/devstack"
)

// anotherPlugin is a plugin that does the same and has another hash: bytes after a
// program's end do not change what it does.
func anotherPlugin(t *testing.T, path string) {
	t.Helper()
	root, err := devstack.RepoRoot()
	require.NoError(t, err)
	code, err := os.ReadFile(filepath.Join(root, "bin", "vault-plugin-dek"))
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(path+".new", append(code, uuid.NewString()...), 0o700))
	require.NoError(t, os.Rename(path+".new", path))
}

// requireWritable writes to the mount and reads it again.
func requireWritable(t *testing.T, s *devstack.Stack, tenant string) {
	t.Helper()
	item := tenantPath(tenant, "secrets/written")
	succeeded(t, callRoot(t, s, http.MethodPut, item, map[string]any{"data": map[string]any{"v": "1"}}))
	succeeded(t, callRoot(t, s, http.MethodGet, item, nil))
}

// reloadLifts reports whether the script has ended that the server holds the mount
// read-only: then its reload has made the mount one that can be written, as that of OpenBao
// does from openbao#3936 on. Vault's, and OpenBao's before, goes on to hold it.
func reloadLifts(t *testing.T, s *devstack.Stack, tenant string, code int) bool {
	t.Helper()
	if code != 0 || !isOpenBao(t, s) {
		return false
	}
	requireWritable(t, s, tenant)
	return true
}

// sealAndUnseal has Vault take up its mounts anew.
func sealAndUnseal(t *testing.T, s *devstack.Stack) {
	t.Helper()
	require.NoError(t, s.Seal(t.Context()))
	require.NoError(t, s.Unseal(t.Context()))
}

// TestBootstrapRenamedPlugin has the same binary under another name, as with
// versioned file names, and takes the old file away.
func TestBootstrapRenamedPlugin(t *testing.T) {
	s := start(t, devstack.Options{NoProxy: true, NamePrefix: "dek-"})
	tenant := newTenant(t, s)
	renamed := filepath.Join(filepath.Dir(s.PluginFile()), "vault-plugin-dek_v9.9.9")
	require.NoError(t, os.Rename(s.PluginFile(), renamed))

	out, code := runScript(t, s, "PLUGIN_FILE="+renamed)
	require.Equal(t, 0, code, out)
	require.Len(t, said(out), 1, out)
	assert.Contains(t, said(out)[0], "command vault-plugin-dek_v9.9.9")
	sealAndUnseal(t, s)
	requireWritable(t, s, tenant)
	out, code = runScript(t, s, "PLUGIN_FILE="+renamed)
	require.Equal(t, 0, code, out)
	assert.Empty(t, said(out))
}

// TestBootstrapProbesThePlugin has binaries that Vault cannot start. The mount goes
// on, also after Vault has taken it up anew.
func TestBootstrapProbesThePlugin(t *testing.T) {
	s := start(t, devstack.Options{NoProxy: true, NamePrefix: "dek-"})
	tenant := newTenant(t, s)
	before := settings(t, s)
	everything := func() []any {
		return []any{
			callRoot(t, s, http.MethodGet, "sys/mounts", nil).data(), callRoot(t, s, http.MethodGet, "sys/plugins/catalog", nil).data(),
		}
	}
	catalog := everything()
	dir := filepath.Dir(s.PluginFile())
	script := filepath.Join(dir, "vault-plugin-dek_script")
	require.NoError(t, os.WriteFile(script, []byte("#!/bin/sh\nexit 1\n"), 0o700))
	plain := filepath.Join(dir, "vault-plugin-dek_plain")
	require.NoError(t, os.WriteFile(plain, []byte("no program"), 0o600))
	for name, env := range map[string][]string{
		"not a plugin": {"PLUGIN_FILE=" + script},
		"no program":   {"PLUGIN_FILE=" + plain},
		"missing":      {"PLUGIN_FILE=" + filepath.Join(dir, "vault-plugin-dek_gone"), "PLUGIN_SHA256=" + strings.Repeat("ab", 32)},
		"another hash": {"PLUGIN_SHA256=" + strings.Repeat("ab", 32)},
	} {
		out, code := runScript(t, s, env...)
		assert.Equal(t, 1, code, "%s: %s", name, out)
		assert.Equal(t, before, settings(t, s), name)
		assert.Equal(t, catalog, everything(), name)
	}
	sealAndUnseal(t, s)
	requireWritable(t, s, tenant)
}

// TestBootstrapTakesBack fails in the middle: no mount is left that was made before.
func TestBootstrapTakesBack(t *testing.T) {
	s := start(t, devstack.Options{NoProxy: true, NamePrefix: "dek-"})
	second := []string{"DEK_MOUNT=second", "JWT_MOUNT=second", "NAME_PREFIX=second-", "USERPASS_MOUNT=second-people"}
	mounts := func() string {
		return string(callRoot(t, s, http.MethodGet, "sys/mounts", nil).Raw) + string(callRoot(t, s, http.MethodGet, "sys/auth", nil).Raw)
	}
	// Nothing listens there, which Vault notices when it is told.
	out, code := runScript(t, s, append(second, "JWT_JWKS_URL=http://127.0.0.1:1/keys")...)
	assert.Equal(t, 1, code, out)
	assert.NotContains(t, mounts(), `"second`, out)
	assert.Contains(t, out, "took back")

	out, code = runScript(t, s, append(second, "JWT_PUBKEY_FILE="+filepath.Join(s.DataDir(), "jwt-public.pem"))...)
	require.Equal(t, 0, code, out)
	assert.Contains(t, mounts(), `"second/"`)
	policies := keys(t, callRoot(t, s, "LIST", "sys/policies/acl", nil))
	assert.Contains(t, policies, "second-application")
	assert.NotContains(t, policies, "second-key_importer", "a role that is off by default")
	out, code = runScript(t, s, second...)
	require.Equal(t, 0, code, out)
	assert.Empty(t, said(out))
	requireWritable(t, s, newTenant(t, s))

	t.Run("sessions with a password", func(t *testing.T) {
		a := callRoot(t, s, http.MethodGet, "sys/auth/second-people/tune", nil)
		assert.Equal(t, []any{1800.0, 28800.0}, []any{a.data()["default_lease_ttl"], a.data()["max_lease_ttl"]})
		write(t, s, "sys/auth/second-people/tune", map[string]any{"max_lease_ttl": "24h"})
		out, code := runScript(t, s, second...)
		require.Equal(t, 0, code, out)
		assert.Empty(t, said(out), "what an operator has set stays")
		assert.Contains(t, out, "live up to 24 h")
		out, code = runScript(t, s, append(second, "USERPASS_MAX_TTL=4h")...)
		require.Equal(t, 0, code, out)
		assert.Len(t, said(out), 1, out)
		a = callRoot(t, s, http.MethodGet, "sys/auth/second-people/tune", nil)
		assert.Equal(t, []any{1800.0, 14400.0}, []any{a.data()["default_lease_ttl"], a.data()["max_lease_ttl"]})
	})
}

// TestBootstrapProvesThatTheMountIsWritable writes over the plugin's file, and
// restarts Vault before the script has run: the mount is then held read-only.
func TestBootstrapProvesThatTheMountIsWritable(t *testing.T) {
	s := start(t, devstack.Options{Storage: devstack.Raft, NoProxy: true, NamePrefix: "dek-"})
	tenant := newTenant(t, s)
	anotherPlugin(t, s.PluginFile())
	require.NoError(t, s.RestartVault(t.Context()))

	out, code := runScript(t, s)
	if reloadLifts(t, s, tenant, code) {
		return
	}
	assert.Equal(t, 3, code, out)
	assert.Contains(t, out, "can be read but NOT written")
	assert.Contains(t, out, "step-down")
	assert.NotContains(t, out, "is ready")
	// The script has had Vault start the engine, on storage that takes no write.
	requireHeldReadOnly(t, s, tenant)
	out, code = runScript(t, s)
	assert.Equal(t, 3, code, "until Vault takes the mount up anew: %s", out)

	sealAndUnseal(t, s)
	out, code = runScript(t, s)
	require.Equal(t, 0, code, out)
	requireWritable(t, s, tenant)
}

// TestBootstrapStartsAPluginThatWasAway takes the registered file away while Vault takes the
// mount up, and puts the same one back: Vault shows its hash at the mount all the while, and
// serves nothing.
func TestBootstrapStartsAPluginThatWasAway(t *testing.T) {
	s := start(t, devstack.Options{NoProxy: true, NamePrefix: "dek-"})
	tenant := newTenant(t, s)
	require.NoError(t, s.Seal(t.Context()))
	require.NoError(t, os.Rename(s.PluginFile(), s.PluginFile()+".away"))
	require.NoError(t, s.Unseal(t.Context()))
	require.NoError(t, os.Rename(s.PluginFile()+".away", s.PluginFile()))
	require.Equal(t, http.StatusNotFound, callRoot(t, s, http.MethodGet, "dek/config", nil).Status)

	out, code := runScript(t, s)
	if reloadLifts(t, s, tenant, code) {
		return
	}
	assert.Equal(t, 3, code, out)
	assert.Contains(t, out, "reloaded dek/")
	requireHeldReadOnly(t, s, tenant)

	sealAndUnseal(t, s)
	out, code = runScript(t, s)
	require.Equal(t, 0, code, out)
	assert.Empty(t, said(out))
	requireWritable(t, s, tenant)
}

// TestStackHealsItself starts a stack again after its plugin was built anew, and
// after the file that Vault has registered is gone.
func TestStackHealsItself(t *testing.T) {
	bin := filepath.Join(t.TempDir(), "plugin")
	anotherPlugin(t, bin)
	opts := devstack.Options{Storage: devstack.Raft, NoProxy: true, NamePrefix: "dek-", DataDir: filepath.Join(t.TempDir(), "dev"), PluginBin: bin}
	s, err := devstack.Start(t.Context(), opts)
	require.NoError(t, err)
	tenant := newTenant(t, s)
	for name, change := range map[string]func(){
		"built anew": func() { anotherPlugin(t, bin) },
		"file gone": func() {
			require.NoError(t, os.RemoveAll(filepath.Join(opts.DataDir, "plugins")))
			code, err := os.ReadFile(bin)
			require.NoError(t, err)
			require.NoError(t, os.WriteFile(bin, append(code, "again"...), 0o700))
		},
	} {
		require.NoError(t, s.Stop())
		change()
		s, err = devstack.Start(t.Context(), opts)
		require.NoError(t, err, name)
		requireWritable(t, s, tenant)
	}
	require.NoError(t, s.Stop())
}
