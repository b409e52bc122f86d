// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package schedule_test

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/enginetest"
)

// A rotation that somebody asked for, of many tenants, says so, and who asked.
func TestRequestedRotationsSayWhoAsked(t *testing.T) {
	for name, ask := range map[string]map[string]any{
		"all":   {"all": true},
		"named": {"tenants": []any{enginetest.TenantN(0)}},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				m := enginetest.NewMount(t)
				defer m.Close()
				m.Must(enginetest.Update, "tenants/"+enginetest.TenantN(0), nil)
				enginetest.Advance(time.Hour)
				ask["reason"] = "leak"
				require.Equal(t, 1, m.Must(enginetest.Update, "rotations", ask)["scheduled"])
				enginetest.Advance(time.Minute)
				rotations := m.RotationsOf(enginetest.TenantN(0))
				require.Len(t, rotations, 1)
				r := rotations[0]
				require.Equal(t, "requested", r["trigger"])
				require.Equal(t, "leak", r["reason"])
				require.NotEqual(t, "system", r["initiated_by"].(map[string]any)["id"])
			})
		})
	}
}

// Paused tenants wait for their rotation until they are not paused any more, unless
// the request includes them; either way the answer counts them.
func TestRequestsForPausedTenants(t *testing.T) {
	for name, ask := range map[string]map[string]any{
		"all":   {"all": true},
		"named": {"tenants": []any{enginetest.TenantN(0), enginetest.TenantN(1)}},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				m := enginetest.NewMount(t)
				defer m.Close()
				m.Must(enginetest.Update, "tenants/"+enginetest.TenantN(0), nil)
				m.Must(enginetest.Update, "tenants/"+enginetest.TenantN(1), map[string]any{"rotation_paused": true})
				enginetest.Advance(time.Hour)
				did := m.Must(enginetest.Update, "rotations", ask)
				require.Equal(t, 1, did["scheduled"])
				require.Equal(t, 1, did["skipped_paused"])
				m.Hourly(3 * time.Hour)
				require.Len(t, m.RotationsOf(enginetest.TenantN(0)), 1)
				require.Empty(t, m.RotationsOf(enginetest.TenantN(1)), "while it is paused")

				ask["include_paused"] = true
				did = m.Must(enginetest.Update, "rotations", ask)
				require.Equal(t, 2, did["scheduled"])
				require.Equal(t, 0, did["skipped_paused"])
				delete(ask, "include_paused")
				m.Hourly(3 * time.Hour)
				require.Len(t, m.RotationsOf(enginetest.TenantN(0)), 2)
				require.Len(t, m.RotationsOf(enginetest.TenantN(1)), 1, "though it is paused")

				enginetest.Advance(time.Hour)
				m.Must(enginetest.Update, "rotations", ask)
				m.Hourly(3 * time.Hour)
				m.Must(enginetest.Update, "tenants/"+enginetest.TenantN(1), map[string]any{"rotation_paused": false})
				m.Hourly(3 * time.Hour)
				require.Len(t, m.RotationsOf(enginetest.TenantN(1)), 2, "once it is not paused any more")
			})
		})
	}
}
