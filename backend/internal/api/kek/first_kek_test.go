// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package kek_test

import (
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/require"

	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/enginetest"
)

// Where every tenant was created under a provider, the mount has no KEK until the first of
// them leaves its own.
func TestFirstTenantOfTheMountsKEK(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := enginetest.NewMount(t)
		defer m.Close()
		m.Provide(nil)
		m.Must(enginetest.Update, enginetest.TenantPath(""), map[string]any{"key_provider": owner})
		m.Must(enginetest.Update, enginetest.TenantPath("/secrets/a"), enginetest.Secret("v"))
		m.MoveTenant(enginetest.TenantID, owner)
		require.Empty(t, m.Disk.Keys("kek/"), "it is not needed")

		m.MoveTenant(enginetest.TenantID, "")
		mounts := m.Must(enginetest.Read, "kek", nil)["kek_id"]
		require.NotEmpty(t, mounts)
		require.Equal(t, mounts, m.Must(enginetest.Read, enginetest.TenantPath("/kek"), nil)["kek_id"])
		require.Empty(t, m.Disk.Keys("tenantkeks/"))
		require.Equal(t, map[string]any{"value": "v"}, m.Must(enginetest.Read, enginetest.TenantPath("/secrets/a"), nil)["data"])
		m.MoveTenant(enginetest.TenantID, owner)
	})
}
