// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package backend

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

// A rotation that somebody asked for, of many tenants, says so, and who asked.
func TestRequestedRotationsSayWhoAsked(t *testing.T) {
	for name, ask := range map[string]map[string]any{
		"all":   {"all": true},
		"named": {"tenants": []any{tenantN(0)}},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				m := newMount(t)
				defer m.close()
				m.must(update, "tenants/"+tenantN(0), nil)
				advance(time.Hour)
				ask["reason"] = "leak"
				require.Equal(t, 1, m.must(update, "rotations", ask)["scheduled"])
				advance(time.Minute)
				rotations := m.rotationsOf(tenantN(0))
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
		"named": {"tenants": []any{tenantN(0), tenantN(1)}},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				m := newMount(t)
				defer m.close()
				m.must(update, "tenants/"+tenantN(0), nil)
				m.must(update, "tenants/"+tenantN(1), map[string]any{"rotation_paused": true})
				advance(time.Hour)
				did := m.must(update, "rotations", ask)
				require.Equal(t, 1, did["scheduled"])
				require.Equal(t, 1, did["skipped_paused"])
				m.hourly(3 * time.Hour)
				require.Len(t, m.rotationsOf(tenantN(0)), 1)
				require.Empty(t, m.rotationsOf(tenantN(1)), "while it is paused")

				ask["include_paused"] = true
				did = m.must(update, "rotations", ask)
				require.Equal(t, 2, did["scheduled"])
				require.Equal(t, 0, did["skipped_paused"])
				delete(ask, "include_paused")
				m.hourly(3 * time.Hour)
				require.Len(t, m.rotationsOf(tenantN(0)), 2)
				require.Len(t, m.rotationsOf(tenantN(1)), 1, "though it is paused")

				advance(time.Hour)
				m.must(update, "rotations", ask)
				m.hourly(3 * time.Hour)
				m.must(update, "tenants/"+tenantN(1), map[string]any{"rotation_paused": false})
				m.hourly(3 * time.Hour)
				require.Len(t, m.rotationsOf(tenantN(1)), 2, "once it is not paused any more")
			})
		})
	}
}
