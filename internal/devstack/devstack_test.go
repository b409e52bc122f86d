// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package devstack

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestExampleItems(t *testing.T) {
	counts := map[string]int{}
	seen := map[string]bool{}
	for _, item := range exampleItems() {
		counts[item.Kind]++
		key := item.Kind + " " + item.Name
		assert.False(t, seen[key], "%s is there twice", key)
		seen[key] = true
	}
	assert.Equal(t, map[string]int{"credentials": 25, "apiKeys": 10, "secrets": 50}, counts)
}

func TestRepoRoot(t *testing.T) {
	root, err := RepoRoot()
	require.NoError(t, err)
	assert.FileExists(t, root+"/bootstrap/bootstrap.sh")

	t.Chdir(t.TempDir())
	_, err = RepoRoot()
	assert.ErrorContains(t, err, "not inside the repository")
}

func TestOptionsRefused(t *testing.T) {
	for name, c := range map[string]struct {
		opts Options
		want string
	}{
		"storage": {Options{Storage: "disk"}, `storage "disk"`},
		"binary":  {Options{VaultBin: "/nonexistent/vault"}, "make vault"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := Start(t.Context(), c.opts)
			assert.ErrorContains(t, err, c.want)
		})
	}
}

// TestClientSettingsAreForgotten has settings that would break or mislead every
// client of this process. VAULT_BIN names a program.
func TestClientSettingsAreForgotten(t *testing.T) {
	for name, value := range map[string]string{
		"VAULT_CACERT": "/nonexistent/ca.pem", "VAULT_NAMESPACE": "other", "VAULT_TOKEN": "theirs",
		"BAO_ADDR": "https://bao.invalid", "VAULT_CLIENT_TIMEOUT": "soon", "VAULT_BIN": "/bin/false",
	} {
		t.Setenv(name, value)
	}
	require.NoError(t, forgetClientSettings())
	s := &Stack{}
	assert.NotPanics(t, func() { s.newClient("") })
	for _, kv := range append(os.Environ(), s.childEnv()...) {
		assert.False(t, isClientSetting(kv) && !strings.HasPrefix(kv, "VAULT_BIN="), kv)
	}
	assert.Equal(t, "/bin/false", os.Getenv("VAULT_BIN"))
	assert.NotContains(t, s.childEnv(), "VAULT_BIN=/bin/false")
}

// TestInstalledPluginsLieSideBySide installs binaries that follow one another.
func TestInstalledPluginsLieSideBySide(t *testing.T) {
	s := &Stack{opts: Options{DataDir: t.TempDir(), PluginBin: filepath.Join(t.TempDir(), "plugin")}}
	var installed []string
	for _, content := range []string{"1", "2", "3", "4", "5", "2"} {
		require.NoError(t, os.WriteFile(s.opts.PluginBin, []byte(content), 0o600))
		require.NoError(t, s.installPlugin())
		data, err := os.ReadFile(s.pluginFile)
		require.NoError(t, err)
		assert.Equal(t, content, string(data))
		installed = append(installed, s.pluginFile)
	}
	assert.Equal(t, installed[1], installed[5], "the same content has the same name")
	for i, file := range installed[:5] {
		require.FileExists(t, file, "a file that may be registered stays")
		age := time.Unix(int64(i), 0)
		require.NoError(t, os.Chtimes(file, age, age))
	}
	require.NoError(t, s.prunePlugins())
	for i, file := range installed {
		_, err := os.Stat(file)
		assert.Equal(t, i != 0, err == nil, "file %d", i)
	}
	s.pluginFile = installed[1]
	require.NoError(t, os.WriteFile(installed[0], nil, 0o600))
	require.NoError(t, s.prunePlugins())
	assert.FileExists(t, installed[1], "the one in use is the oldest")
}

// TestConfigurationForOpenBao has servers that say what they are.
func TestConfigurationForOpenBao(t *testing.T) {
	for version, want := range map[string]bool{"OpenBao v2.5.5 (abc), built 2026": true, "Vault v1.21.4, built 2026": false} {
		dir := t.TempDir()
		server := filepath.Join(dir, "server")
		require.NoError(t, os.WriteFile(server, []byte("#!/bin/sh\necho '"+version+"'\n"), 0o700))
		s := &Stack{opts: Options{DataDir: dir, VaultBin: server}}
		require.NoError(t, s.writeConfig())
		config, err := os.ReadFile(filepath.Join(dir, "vault.hcl"))
		require.NoError(t, err)
		for _, setting := range []string{"max_request_json_strings = 500000", "max_request_json_memory  = 67108864", "unsafe_allow_api_audit_creation = true"} {
			assert.Equal(t, want, strings.Contains(string(config), setting), "%s: %s", version, setting)
		}
	}
}

func TestSocketDirectory(t *testing.T) {
	t.Setenv("TMPDIR", "/"+strings.Repeat("x", longestTempDir-1))
	s := &Stack{}
	require.NoError(t, s.prepareSocketDir())
	assert.Empty(t, s.socketDir)

	t.Setenv("TMPDIR", "/"+strings.Repeat("x", longestTempDir))
	require.NoError(t, s.prepareSocketDir())
	t.Cleanup(func() { _ = os.Remove(s.socketDir) })
	assert.DirExists(t, s.socketDir)
	assert.LessOrEqual(t, len(s.socketDir), longestTempDir)
	assert.Equal(t, "TMPDIR="+s.socketDir, s.childEnv()[len(s.childEnv())-1], "the last one counts")
	assert.Contains(t, s.ephemeral(), s.socketDir)
}
