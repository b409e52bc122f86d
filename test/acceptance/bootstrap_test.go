// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

//go:build acceptance

package acceptance

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/vault-plugin-dek/vault-plugin-dek/internal/devstack"
)

// settings is what bootstrap.sh is responsible for, as Vault shows it. Groups
// and aliases carry the time and number of their last change.
func settings(t *testing.T, s *devstack.Stack) map[string]any {
	t.Helper()
	found := map[string]any{}
	show := func(name, path string) {
		a := callRoot(t, s, http.MethodGet, path, nil)
		require.Equal(t, http.StatusOK, a.Status, path)
		found[name] = a.data()
	}
	show("mount", "sys/mounts/dek")
	version, _ := found["mount"].(map[string]any)["plugin_version"].(string)
	show("catalog", "sys/plugins/catalog/secret/vault-plugin-dek?version="+version)
	for _, path := range []string{
		"sys/auth/jwt", "auth/jwt/config", "auth/jwt/role/dek",
		"auth/jwt/role/dek-application", "auth/jwt/role/dek-security_admin", "auth/jwt/role/dek-key_importer",
	} {
		show(path, path)
	}
	for _, role := range allRoles {
		show("policy "+role, "sys/policy/dek-"+role)
		show("group "+role, "identity/group/name/dek-"+role)
	}
	return found
}

func TestBootstrapTwiceChangesNothing(t *testing.T) {
	s := start(t, devstack.Options{NoProxy: true, NamePrefix: "dek-"})
	before := settings(t, s)
	plugin, err := s.PluginPIDs()
	require.NoError(t, err)

	require.NoError(t, s.Bootstrap(t.Context()))
	assert.Equal(t, before, settings(t, s))
	same, err := s.PluginPIDs()
	require.NoError(t, err)
	assert.Equal(t, plugin, same, "the plugin goes on running")
}

// TestBootstrapRepairs takes something away, or adds to it, and runs the script.
func TestBootstrapRepairs(t *testing.T) {
	s := start(t, devstack.Options{NoProxy: true, NamePrefix: "dek-"})
	group := "identity/group/name/dek-key_admin"
	for _, change := range []struct{ method, path string }{
		{http.MethodDelete, "sys/policy/dek-super_admin"},
		{http.MethodDelete, "sys/policy/dek-application"},
		{http.MethodDelete, "identity/group/name/dek-security_admin"},
		{http.MethodDelete, "identity/group/name/dek-auditor"},
		{http.MethodDelete, "sys/auth/jwt"},
	} {
		a := callRoot(t, s, change.method, change.path, nil)
		require.Equal(t, http.StatusNoContent, a.Status, change.path)
	}
	a := callRoot(t, s, http.MethodPost, group, map[string]any{"policies": []string{"dek-key_admin", "of-the-operator"}})
	require.Less(t, a.Status, 300, a.errors())

	require.NoError(t, s.Bootstrap(t.Context()))
	tenant := newTenant(t, s)
	for _, role := range []string{securityAdmin, superAdmin, auditor} {
		a := call(t, s, http.MethodGet, tenantPath(tenant, "dek"), login(t, s, tenant, role), nil)
		assert.Equal(t, http.StatusOK, a.Status, role)
	}
	a = call(t, s, http.MethodPut, tenantPath(tenant, "encrypt"), login(t, s, tenant, application), map[string]any{"plaintext": "aGVsbG8="})
	assert.Equal(t, http.StatusOK, a.Status, a.errors())
	a = callRoot(t, s, http.MethodGet, group, nil)
	assert.ElementsMatch(t, []any{"dek-key_admin", "of-the-operator"}, a.data()["policies"], "what the operator gave stays")
}

// TestUpgrade puts another binary in place, as an operator does, and runs the
// script: the new one is registered and runs, and what was written is there.
func TestUpgrade(t *testing.T) {
	root, err := devstack.RepoRoot()
	require.NoError(t, err)
	bin := filepath.Join(t.TempDir(), "vault-plugin-dek")
	code, err := os.ReadFile(filepath.Join(root, "bin", "vault-plugin-dek"))
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(bin, code, 0o700))

	sockets := t.TempDir()
	s := start(t, devstack.Options{NoProxy: true, NamePrefix: "dek-", PluginBin: bin, ProviderSockets: sockets})
	tenant := newTenant(t, s)
	startedWith := func() any {
		mount := callRoot(t, s, http.MethodGet, "sys/mounts/dek", nil).data()
		return callRoot(t, s, http.MethodGet, fmt.Sprint("sys/plugins/catalog/secret/vault-plugin-dek?version=", mount["running_plugin_version"]), nil).data()["args"]
	}
	require.Equal(t, []any{"-provider-sockets=" + sockets}, startedWith())
	before := settings(t, s)

	// Bytes after its end do not change what a program does, only its hash.
	require.NoError(t, os.WriteFile(bin, append(code, "next"...), 0o700))
	require.NoError(t, s.Bootstrap(t.Context()))
	after := settings(t, s)
	for _, name := range []string{"mount", "catalog"} {
		assert.NotEqual(t, before[name], after[name], name)
		before[name] = after[name]
	}
	assert.Equal(t, before, after, "nothing else")
	a := callRoot(t, s, http.MethodGet, "dek/tenants/"+tenant, nil)
	assert.Equal(t, http.StatusOK, a.Status, a.errors())

	anotherPlugin(t, s.PluginFile()+"_next")
	out, code2 := runScript(t, s, "PLUGIN_FILE="+s.PluginFile()+"_next")
	require.Equal(t, 0, code2, out)
	require.Equal(t, []any{"-provider-sockets=" + sockets}, startedWith(), "an upgrade keeps it")
	other := t.TempDir()
	out, code2 = runScript(t, s, "PLUGIN_FILE="+s.PluginFile()+"_next", "PROVIDER_SOCKETS="+other)
	require.Equal(t, 0, code2, out)
	require.Equal(t, []any{"-provider-sockets=" + other}, startedWith())
	out, code2 = runScript(t, s, "PLUGIN_FILE="+s.PluginFile()+"_next", "PROVIDER_SOCKETS="+other)
	require.Equal(t, 0, code2, out)
	assert.Empty(t, said(out))
}

func TestBootstrapSaysWhatIsWrong(t *testing.T) {
	s := start(t, devstack.Options{NoProxy: true, NamePrefix: "dek-"})
	require.NoError(t, s.Seal(t.Context()))
	err := s.Bootstrap(t.Context())
	require.ErrorContains(t, err, "bootstrap.sh")
	assert.ErrorContains(t, err, "Vault is sealed")
}
