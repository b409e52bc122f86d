// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package settings_test

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/enginetest"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/storagetest"
)

// Each change of config and of the rotation settings is an entry of the log, with what
// changed alone. A write that changes nothing is none.
func TestChangedSettingsAreLogged(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := enginetest.NewMount(t)
		defer m.Close()
		m.Must(enginetest.Update, "config", map[string]any{"retired_key_retention": "1h", "org_id": "acme", "max_item_bytes": 262144})
		m.Must(enginetest.Update, "config", map[string]any{"org_id": "acme"})
		m.Must(enginetest.Update, "key/rotationSettings", map[string]any{"rotation_interval": "90_DAYS"})
		m.Must(enginetest.Update, "key/rotationSettings", map[string]any{"rotation_interval": "90_DAYS"})
		require.Equal(t, map[string]string{
			"retired_key_retention": "3600", "org_id": "acme", "rotation_interval": "7776000",
		}, m.SettingsLogged())
		m.Must(enginetest.Update, "config", map[string]any{"min_deletion_window": "48h"})
		m.Must(enginetest.Update, "tenants/"+enginetest.TenantID, nil)
		m.Must(enginetest.Update, "config", map[string]any{"min_deletion_window": "1h"})
		logged := m.SettingsLogged()
		require.Equal(t, "172800", logged["min_deletion_window"])
		require.Equal(t, "3600", logged["min_deletion_window_pending"])
		m.Must(enginetest.Update, "config", map[string]any{"min_deletion_window": "48h"}) // takes it back
		require.EqualValues(t, 7, m.Engine.Ledger.Size(), "the start, five changes and a tenant")
		m.Verified()
	})
}

// What the log has is dropped by the next write: an entry does not grow with each.
func TestLoggedChangesAreDropped(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := enginetest.NewMount(t)
		defer m.Close()
		for n := range 120 {
			m.Must(enginetest.Update, "config", map[string]any{"scheduler_jitter": n})
		}
		require.Less(t, len(m.Disk.Value("config")), 4096)
	})
}

// Settings can be changed while the log cannot be written, until too many changes wait.
func TestSettingsChangeWithoutTheLog(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := enginetest.NewMount(t)
		defer m.Close()
		m.Must(enginetest.Update, "tenants/"+enginetest.TenantID, nil)
		m.Storage.Fail(func(op, key string) storagetest.Fault {
			if op == "put" && strings.HasPrefix(key, "evidence/log/") {
				return storagetest.Before
			}
			return storagetest.None
		})
		for n := range 100 {
			resp, err := m.Call(enginetest.Update, "config", map[string]any{"scheduler_jitter": n})
			require.NoError(t, err)
			require.Contains(t, resp.Warnings, "evidence pending")
		}
		m.Refused(503, "wait for the evidence log", enginetest.Update, "config", map[string]any{"scheduler_jitter": 1000})
		m.Storage.Fail(nil)
		enginetest.Advance(time.Minute)
		m.Must(enginetest.Update, "config", map[string]any{"scheduler_jitter": 1000})
		require.Equal(t, "1000", m.SettingsLogged()["scheduler_jitter"])
	})
}
