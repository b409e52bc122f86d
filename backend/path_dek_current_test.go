// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package backend_test

import (
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/require"

	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/enginetest"
)

func TestCurrentDEK(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := enginetest.NewMount(t)
		defer m.Close()
		path := enginetest.TenantPath("/dek/current")
		m.Refused(404, "tenant not found", enginetest.Read, path, nil)
		m.Must(enginetest.Update, enginetest.TenantPath(""), nil)
		require.Equal(t, map[string]any{"current_version": 1, "min_decryption_version": 1}, m.Must(enginetest.Read, path, nil))
		m.Rotated(nil)
		require.Equal(t, map[string]any{"current_version": 2, "min_decryption_version": 1}, m.Must(enginetest.Read, path, nil))
		m.Must(enginetest.Update, enginetest.TenantPath("/dek/config"), map[string]any{"min_decryption_version": 2})
		require.Equal(t, map[string]any{"current_version": 2, "min_decryption_version": 2}, m.Must(enginetest.Read, path, nil))
		m.Must(enginetest.Delete, enginetest.TenantPath(""), nil)
		m.Refused(404, "restore", enginetest.Read, path, nil)
		m.Refused(400, "tenant_id", enginetest.Read, "tenants/X/dek/current", nil)
	})
}
