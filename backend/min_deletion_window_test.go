// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package backend

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/storagetest"
)

// Nobody destroys a tenant sooner than the mount's minimum allows, not even whoever may
// change the minimum: a lower one holds once the one in force has passed.
func TestMinDeletionWindow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := openMount(t, storagetest.NewDisk(), 0, storagetest.None)
		defer m.close()
		config := func(window any) map[string]any {
			return m.must(update, "config", map[string]any{"min_deletion_window": window})
		}
		require.Equal(t, int64(86400), m.must(read, "config", nil)["min_deletion_window"], "by default")
		require.Equal(t, int64(3600), config("1h")["min_deletion_window"], "lowered at once, without a tenant")
		config("24h")
		m.must(update, tenantPath(""), nil)

		for _, window := range []string{"0", "1h", "86399s"} {
			m.refused(400, "deletion_window must be at least 24h", del, tenantPath(""), map[string]any{"deletion_window": window})
		}
		require.Equal(t, "active", m.must(read, tenantPath(""), nil)["state"])

		pending := config("1h")
		require.Equal(t, int64(86400), pending["min_deletion_window"])
		require.Equal(t, int64(3600), pending["min_deletion_window_pending"].(map[string]any)["min_deletion_window"])
		advance(23 * time.Hour)
		config("1h") // asked for again, it does not begin anew
		m.refused(400, "at least 24h", del, tenantPath(""), map[string]any{"deletion_window": "1h"})
		advance(time.Hour)
		now := m.must(read, "config", nil)
		require.Equal(t, int64(3600), now["min_deletion_window"])
		require.Nil(t, now["min_deletion_window_pending"])
		require.Equal(t, "deleting", m.must(del, tenantPath(""), map[string]any{"deletion_window": "1h"})["state"])
		m.refused(400, "at least 1h", del, tenantPath(""), map[string]any{"deletion_window": 0})

		m.must(update, tenantPath("/restore"), nil)
		config("720h")
		require.Equal(t, int64(2592000), m.must(read, "config", nil)["min_deletion_window"], "raised at once")
		after := m.must(del, tenantPath(""), nil)["delete_after"].(string)
		at, err := time.Parse(time.RFC3339Nano, after)
		require.NoError(t, err)
		require.Equal(t, 720*time.Hour, time.Until(at), "the default is not below the minimum")
		for _, window := range []any{"721h", "-1s", "soon", 1.5, ""} {
			m.refused(400, "min_deletion_window", update, "config", map[string]any{"min_deletion_window": window})
		}
	})
}
