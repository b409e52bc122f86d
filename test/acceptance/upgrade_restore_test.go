// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

//go:build acceptance

package acceptance

import (
	"bytes"
	"net/http"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/vault-plugin-dek/vault-plugin-dek/internal/devstack"
)

// TestRestoredSnapshotOfBeforeAnUpgrade restores a snapshot in which the former plugin is
// registered. Where its file was kept, the mount can be written at once. Where it was not,
// Vault holds the mount read-only: writes and the script say what to do, and that helps.
func TestRestoredSnapshotOfBeforeAnUpgrade(t *testing.T) {
	bin := filepath.Join(t.TempDir(), "plugin")
	anotherPlugin(t, bin)
	s := start(t, devstack.Options{Storage: devstack.Raft, NoProxy: true, NamePrefix: "dek-", PluginBin: bin})
	tenant := newTenant(t, s)
	kept := tenantPath(tenant, "secrets/kept")
	succeeded(t, callRoot(t, s, http.MethodPut, kept, map[string]any{"data": map[string]any{"v": "before"}}))
	var snapshot bytes.Buffer
	require.NoError(t, s.Snapshot(t.Context(), &snapshot))

	former := s.PluginFile()
	anotherPlugin(t, bin)
	require.NoError(t, s.InstallPlugin())
	require.NotEqual(t, former, s.PluginFile())
	out, code := runScript(t, s)
	require.Equal(t, 0, code, out)
	assert.Contains(t, out, "command "+filepath.Base(s.PluginFile()))
	requireWritable(t, s, tenant)
	restore := func(t *testing.T) {
		pids, err := s.PluginPIDs()
		require.NoError(t, err)
		require.NoError(t, s.Restore(t.Context(), bytes.NewReader(snapshot.Bytes())))
		requireGone(t, pids) // Vault has let go of its mounts, and takes up those of the snapshot
		healthy(t, s)
	}
	isThere := func(t *testing.T) {
		item := succeeded(t, callRoot(t, s, http.MethodGet, kept, nil))
		assert.Equal(t, map[string]any{"v": "before"}, item["data"])
	}

	t.Run("the former file was kept", func(t *testing.T) {
		restore(t)
		isThere(t)
		requireWritable(t, s, tenant)
	})

	t.Run("the former file is gone", func(t *testing.T) {
		require.NoError(t, os.Remove(former))
		restore(t)
		require.NotEqual(t, http.StatusOK, callRoot(t, s, http.MethodGet, kept, nil).Status, "the plugin cannot be started")
		out, code := runScript(t, s)
		if !reloadLifts(t, s, tenant, code) {
			require.Equal(t, 3, code, out)
			assert.NotContains(t, out, "is ready")
			requireHeldReadOnly(t, s, tenant)
		}
		isThere(t)

		sealAndUnseal(t, s)
		out, code = runScript(t, s)
		require.Equal(t, 0, code, out)
		requireWritable(t, s, tenant)
		isThere(t)
	})
}
