// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package fleet

import (
	"maps"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/enginetest"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/storagetest"
)

// A campaign over 1,000 tenants, of which some are paused, have a full record, a page that
// cannot be read, or are being deleted: status names each one that was not rotated, with
// the reason, and nobody else.
func TestCampaignNamesEveryoneHeldBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := enginetest.NewMount(t)
		defer func() { m.Close() }()
		m.Must(enginetest.Update, "config", map[string]any{"scheduler_jitter": 0})
		var paused, full, damaged, deleting []string
		for n := range fleetSize() {
			id := enginetest.TenantN(n)
			m.Must(enginetest.Update, "tenants/"+id, nil)
			switch {
			case n%25 == 0:
				m.Must(enginetest.Update, "tenants/"+id, map[string]any{"rotation_paused": true})
				paused = append(paused, id)
			case n%33 == 1:
				fillRecord(m, id)
				full = append(full, id)
			case n%50 == 2:
				m.Must(enginetest.Update, "tenants/"+id+"/secrets/a", enginetest.Secret("x"))
				damaged = append(damaged, id)
			case n%100 == 3:
				m.Must(enginetest.Delete, "tenants/"+id, map[string]any{"deletion_window": "720h"})
				deleting = append(deleting, id)
			}
		}
		enginetest.Advance(time.Minute)
		m.Close()
		require.Equal(t, len(damaged), m.Disk.Damage(storagetest.ErrAltered, func(key string) bool {
			return strings.HasPrefix(key, "pages/")
		}))
		m = enginetest.OpenMount(t, m.Disk, 0, storagetest.None)
		enginetest.Advance(time.Minute)
		m.Must(enginetest.Update, "rotations", map[string]any{"all": true, "reason": "leak"})
		m.Hourly(3 * time.Hour)

		st := m.Must(enginetest.Read, "status", nil)
		blocked, _ := st["blocked_tenants"].(map[string]string)
		failed, _ := st["failed_tenants"].([]string)
		overdue, _ := st["overdue_tenants"].([]string)
		named := slices.Concat(slices.Collect(maps.Keys(blocked)), failed, overdue)
		slices.Sort(named)
		heldBack := slices.Concat(paused, full, damaged, deleting)
		slices.Sort(heldBack)
		require.Equal(t, heldBack, slices.Compact(named))
		require.Equal(t, damaged, failed)
		require.Equal(t, len(paused), st["paused"])
		for id, reason := range blocked {
			switch {
			case slices.Contains(paused, id):
				require.Contains(t, reason, "rotation_paused")
			case slices.Contains(deleting, id):
				require.Contains(t, reason, "being deleted")
			case slices.Contains(full, id):
				require.Contains(t, reason, "no room")
			}
		}
		for n := range fleetSize() {
			id := enginetest.TenantN(n)
			if slices.Contains(heldBack, id) && !slices.Contains(damaged, id) {
				continue
			}
			rotations := m.RotationsOf(id)
			require.Len(t, rotations, 1, id)
			require.Equal(t, []any{"leak", "requested"}, []any{rotations[0]["reason"], rotations[0]["trigger"]})
		}
	})
}
