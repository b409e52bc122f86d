// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

//go:build acceptance

package acceptance

import (
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/vault-plugin-dek/vault-plugin-dek/internal/devstack"
)

// goneLimit is more than Vault takes to seal and the guard to step in.
const goneLimit = 20 * time.Second

// requireGone waits until none of the processes is there any more.
func requireGone(t *testing.T, pids []int) {
	t.Helper()
	require.NotEmpty(t, pids)
	for _, pid := range pids {
		require.Eventually(t, func() bool { return syscall.Kill(pid, 0) != nil }, goneLimit, rotationTick,
			"process %d is still there", pid)
	}
}

func TestStopLeavesNothing(t *testing.T) {
	s, err := devstack.Start(t.Context(), devstack.Options{})
	require.NoError(t, err)
	pids, err := s.PIDs()
	require.NoError(t, err)
	assert.Len(t, pids, 3, "Vault, the plugin and the proxy")

	require.NoError(t, s.Stop())
	requireGone(t, pids)
	assert.NoDirExists(t, s.DataDir())
	assert.NoError(t, s.Stop(), "a second time")
}

// TestStackInAHostileShell has settings of Vault's clients that would break or mislead
// whatever heeds them, and a directory for temporary files whose path is too long for
// a socket.
func TestStackInAHostileShell(t *testing.T) {
	long := filepath.Join(t.TempDir(), strings.Repeat("x", 130))
	require.NoError(t, os.Mkdir(long, 0o700))
	for name, value := range map[string]string{
		"TMPDIR": long, "VAULT_CACERT": "/nonexistent/ca.pem", "VAULT_ADDR": "https://vault.invalid", "VAULT_TOKEN": "theirs",
		"VAULT_NAMESPACE": "theirs", "VAULT_FORMAT": "json", "VAULT_CLIENT_TIMEOUT": "soon", "BAO_ADDR": "https://bao.invalid",
		"VAULT_LOG_LEVEL": "trace", "VAULT_LICENSE": "none", "VAULT_SKIP_VERIFY": "perhaps",
	} {
		t.Setenv(name, value)
	}
	s, err := devstack.Start(t.Context(), devstack.Options{})
	require.NoError(t, err)
	requireWritable(t, s, newTenant(t, s))
	require.DirExists(t, s.SocketDir())
	require.NoError(t, s.Stop())
	assert.NoDirExists(t, s.SocketDir())
}

// isOpenBao reports whether a stack's server is OpenBao.
func isOpenBao(t *testing.T, s *devstack.Stack) bool {
	t.Helper()
	is, err := s.IsOpenBao()
	require.NoError(t, err)
	return is
}

// TestFailedStartLeavesNothing starts a stack whose proxy does not come up.
func TestFailedStartLeavesNothing(t *testing.T) {
	dir := t.TempDir()
	_, err := devstack.Start(t.Context(), devstack.Options{DataDir: dir, ProxyBin: "/bin/false"})
	require.ErrorContains(t, err, "proxy")
	lock, err := os.ReadFile(filepath.Join(dir, "vault.log"))
	require.NoError(t, err)
	assert.Contains(t, string(lock), "shutdown triggered", "before which Vault or OpenBao says its name")
}

func TestDataDirIsTakenOnce(t *testing.T) {
	s := shared(t)
	_, err := devstack.Start(t.Context(), devstack.Options{DataDir: s.DataDir()})
	require.ErrorContains(t, err, "in use by another stack")
	assert.NoError(t, s.Alive(), "the first goes on")
}

// TestRaftSurvives kills and stops everything there is, one after the other.
func TestRaftSurvives(t *testing.T) {
	s := start(t, devstack.Options{Storage: devstack.Raft})
	tenant := newTenant(t, s)
	item := "dek/tenants/" + tenant + "/secrets/kept"
	a := callRoot(t, s, http.MethodPut, item, map[string]any{"data": map[string]any{"value": "kept"}})
	require.Equal(t, http.StatusOK, a.Status, a.errors())
	jwt := mint(t, s, tenant, "security_admin")
	works := func(t *testing.T) {
		t.Helper()
		a := callRoot(t, s, http.MethodGet, item, nil)
		require.Equal(t, http.StatusOK, a.Status, a.errors())
		assert.Equal(t, map[string]any{"value": "kept"}, a.data()["data"])
		a = callProxy(t, s, http.MethodGet, "/api/v1/admin/dek/rotate/rot-00000000-0000-4000-8000-000000000000", nil,
			"Authorization", "Bearer "+jwt, "X-TenantID", tenant)
		assert.Equal(t, http.StatusNotFound, a.Status, "%s", a.Raw)
	}

	works(t)
	t.Run("kill Vault", func(t *testing.T) {
		pids, err := s.PIDs()
		require.NoError(t, err)
		s.KillVault()
		requireGone(t, pids[:2])
		assert.ErrorContains(t, s.Alive(), "vault has stopped")
		require.NoError(t, s.RestartVault(t.Context()))
		works(t)
	})
	t.Run("kill the plugin", func(t *testing.T) {
		before, err := s.PluginPIDs()
		require.NoError(t, err)
		require.NoError(t, s.KillPlugin())
		requireGone(t, before)
		// Vault answers 500 until it has noticed, a few milliseconds later.
		require.Eventually(t, func() bool {
			return callRoot(t, s, http.MethodGet, item, nil).Status == http.StatusOK
		}, goneLimit, rotationTick)
		works(t)
		after, err := s.PluginPIDs()
		require.NoError(t, err)
		assert.NotEqual(t, before, after)
	})
	t.Run("reload the plugin", func(t *testing.T) {
		require.NoError(t, s.ReloadPlugin(t.Context()))
		works(t)
	})
	t.Run("seal", func(t *testing.T) {
		require.NoError(t, s.Seal(t.Context()))
		a := callRoot(t, s, http.MethodGet, item, nil)
		assert.Equal(t, http.StatusServiceUnavailable, a.Status)
		require.NoError(t, s.Unseal(t.Context()))
		works(t)
	})
	t.Run("stop the proxy", func(t *testing.T) {
		s.StopProxy()
		require.NoError(t, s.StartProxy(t.Context()))
		works(t)
	})
}

// TestSeed does what make demo does, without the proxy.
func TestSeed(t *testing.T) {
	s := shared(t)
	tenant := uuid.NewString()
	exists, err := s.TenantExists(t.Context(), tenant)
	require.NoError(t, err)
	require.False(t, exists)
	items, err := s.Seed(t.Context(), tenant)
	require.NoError(t, err)
	exists, err = s.TenantExists(t.Context(), tenant)
	require.NoError(t, err)
	require.True(t, exists)

	waitRotation(t, s, tenant, rotate(t, s, tenant), "completed")
	same, err := s.CountSame(t.Context(), tenant, items)
	assert.NoError(t, err)
	assert.Equal(t, 85, same)

	items[7].Data = map[string]any{"value": "another"}
	same, err = s.CountSame(t.Context(), tenant, items)
	assert.Equal(t, 84, same)
	assert.ErrorContains(t, err, items[7].Name+": differs")
}
