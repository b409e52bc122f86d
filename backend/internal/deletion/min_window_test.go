// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package deletion_test

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/enginetest"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/storagetest"
)

// Nobody destroys a tenant sooner than the mount's minimum allows, not even whoever may
// change the minimum: a lower one holds once the one in force has passed.
func TestMinDeletionWindow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := enginetest.OpenMount(t, storagetest.NewDisk(), 0, storagetest.None)
		defer m.Close()
		config := func(window any) map[string]any {
			return m.Must(enginetest.Update, "config", map[string]any{"min_deletion_window": window})
		}
		require.Equal(t, int64(86400), m.Must(enginetest.Read, "config", nil)["min_deletion_window"], "by default")
		require.Equal(t, int64(3600), config("1h")["min_deletion_window"], "lowered at once, without a tenant")
		config("24h")
		m.Must(enginetest.Update, enginetest.TenantPath(""), nil)

		for _, window := range []string{"0", "1h", "86399s"} {
			m.Refused(400, "deletion_window must be at least 24h", enginetest.Delete, enginetest.TenantPath(""), map[string]any{"deletion_window": window})
		}
		require.Equal(t, "active", m.Must(enginetest.Read, enginetest.TenantPath(""), nil)["state"])

		pending := config("1h")
		require.Equal(t, int64(86400), pending["min_deletion_window"])
		require.Equal(t, int64(3600), pending["min_deletion_window_pending"].(map[string]any)["min_deletion_window"])
		enginetest.Advance(23 * time.Hour)
		config("1h") // asked for again, it does not begin anew
		m.Refused(400, "at least 24h", enginetest.Delete, enginetest.TenantPath(""), map[string]any{"deletion_window": "1h"})
		enginetest.Advance(time.Hour)
		now := m.Must(enginetest.Read, "config", nil)
		require.Equal(t, int64(3600), now["min_deletion_window"])
		require.Nil(t, now["min_deletion_window_pending"])
		require.Equal(t, "deleting", m.Must(enginetest.Delete, enginetest.TenantPath(""), map[string]any{"deletion_window": "1h"})["state"])
		m.Refused(400, "at least 1h", enginetest.Delete, enginetest.TenantPath(""), map[string]any{"deletion_window": 0})

		m.Must(enginetest.Update, enginetest.TenantPath("/restore"), nil)
		config("720h")
		require.Equal(t, int64(2592000), m.Must(enginetest.Read, "config", nil)["min_deletion_window"], "raised at once")
		after := m.Must(enginetest.Delete, enginetest.TenantPath(""), nil)["delete_after"].(string)
		at, err := time.Parse(time.RFC3339Nano, after)
		require.NoError(t, err)
		require.Equal(t, 720*time.Hour, time.Until(at), "the default is not below the minimum")
		for _, window := range []any{"721h", "-1s", "soon", 1.5, ""} {
			m.Refused(400, "min_deletion_window", enginetest.Update, "config", map[string]any{"min_deletion_window": window})
		}
	})
}
