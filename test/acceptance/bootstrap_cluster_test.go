// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

//go:build acceptance

package acceptance

import (
	"crypto/sha256"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/vault-plugin-dek/vault-plugin-dek/internal/devstack"
)

// failover has the active node give up its place, and returns the next one.
func failover(t *testing.T, c *devstack.Cluster) *devstack.Stack {
	t.Helper()
	before, err := c.Leader(t.Context())
	require.NoError(t, err)
	require.NoError(t, before.StepDown(t.Context()))
	var leader *devstack.Stack
	require.Eventually(t, func() bool {
		leader, err = c.Leader(t.Context())
		return err == nil && leader != before
	}, time.Minute, rotationTick)
	require.NoError(t, c.Ready(t.Context()))
	return leader
}

// TestUpgradeWithFailovers upgrades a cluster by the runbook, and has another node
// become active after each of its steps. Clients write by way of every node meanwhile: each
// write is done, or says what to do, and what the script calls ready can be written.
func TestUpgradeWithFailovers(t *testing.T) {
	bin := filepath.Join(t.TempDir(), "plugin")
	anotherPlugin(t, bin)
	c, err := devstack.StartCluster(t.Context(), 3, devstack.Options{DataDir: t.TempDir(), PluginBin: bin, NamePrefix: "dek-"})
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, c.Stop()) })
	leader, err := c.Leader(t.Context())
	require.NoError(t, err)
	tenant := newTenant(t, leader)
	writers, stop := keepWriting(t, c, tenant)
	writers.check(t, "before the upgrade")

	old := filepath.Base(leader.PluginFile())
	anotherPlugin(t, bin)
	for _, node := range c.Nodes() { // the new file beside the old one, on every node
		require.NoError(t, node.InstallPlugin())
		writers.check(t, "the new file is on some nodes")
	}
	command := filepath.Base(leader.PluginFile())
	require.NotEqual(t, old, command)
	leader = writers.failover(t, "the new file is on every node")

	out, code := runScript(t, leader)
	require.Equal(t, 0, code, out)
	assert.Contains(t, out, "command "+command)
	assert.Contains(t, out, "reloaded dek/")
	requireWritable(t, leader, tenant)
	writers.check(t, "the script has run")
	for range c.Nodes() {
		leader = writers.failover(t, "after the upgrade")
	}

	t.Run("between registering and reloading", func(t *testing.T) {
		anotherPlugin(t, bin)
		for _, node := range c.Nodes() {
			require.NoError(t, node.InstallPlugin())
		}
		// The script's first step alone, as where it was interrupted.
		code, err := os.ReadFile(leader.PluginFile())
		require.NoError(t, err)
		write(t, leader, "sys/plugins/catalog/secret/vault-plugin-dek", map[string]any{
			"command": filepath.Base(leader.PluginFile()), "sha256": fmt.Sprintf("%x", sha256.Sum256(code)),
		})
		writers.check(t, "registered")
		leader = writers.failover(t, "registered, and not reloaded")
		out, status := runScript(t, leader)
		require.Equal(t, 0, status, out)
		requireWritable(t, leader, tenant)
		writers.check(t, "the script has run again")
		writers.failover(t, "after that")
	})
	stop() // what follows is no upgrade by the runbook

	t.Run("a node without the file", func(t *testing.T) {
		leader, err := c.Leader(t.Context())
		require.NoError(t, err)
		var lost []string
		for _, node := range c.Nodes() {
			if node != leader {
				require.NoError(t, os.Rename(node.PluginFile(), node.PluginFile()+".away"))
				lost = append(lost, node.PluginFile())
			}
		}
		next := failover(t, c)
		a := callRoot(t, next, http.MethodGet, tenantPath(tenant), nil)
		require.NotEqual(t, http.StatusOK, a.Status, "the plugin cannot be started")
		out, code := runScript(t, next)
		assert.NotZero(t, code, out)
		assert.NotContains(t, out, "is ready")

		for _, file := range lost {
			require.NoError(t, os.Rename(file+".away", file))
		}
		out, code = runScript(t, next)
		if !reloadLifts(t, next, tenant, code) {
			assert.Equal(t, 3, code, out)
			requireHeldReadOnly(t, next, tenant)
		}
		next = failover(t, c)
		out, code = runScript(t, next)
		require.Equal(t, 0, code, out)
		requireWritable(t, next, tenant)
	})
}
