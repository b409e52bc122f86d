// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package backend

import (
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/require"
)

func TestCurrentDEK(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMount(t)
		defer m.close()
		path := tenantPath("/dek/current")
		m.refused(404, "tenant not found", read, path, nil)
		m.must(update, tenantPath(""), nil)
		require.Equal(t, map[string]any{"current_version": 1, "min_decryption_version": 1}, m.must(read, path, nil))
		m.rotated(nil)
		require.Equal(t, map[string]any{"current_version": 2, "min_decryption_version": 1}, m.must(read, path, nil))
		m.must(update, tenantPath("/dek/config"), map[string]any{"min_decryption_version": 2})
		require.Equal(t, map[string]any{"current_version": 2, "min_decryption_version": 2}, m.must(read, path, nil))
		m.must(del, tenantPath(""), nil)
		m.refused(404, "restore", read, path, nil)
		m.refused(400, "tenant_id", read, "tenants/X/dek/current", nil)
	})
}
