// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package backend_test

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/enginetest"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/storagetest"
)

// infoOf is what a list says of a key.
func infoOf(t *testing.T, answer map[string]any, key string) map[string]any {
	t.Helper()
	all, _ := answer["key_info"].(map[string]any)
	info, ok := all[key].(map[string]any)
	require.True(t, ok, "nothing of %s", key)
	return info
}

func TestTenantsInDetail(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := enginetest.NewMount(t)
		defer m.Close()
		created := time.Now().UTC()
		for n, data := range []map[string]any{
			{"display_name": "Zoë 東京 🔑"},
			{"rotation_paused": true},
			{"rotation_interval": "90_DAYS"},
			{},
			nil,
		} {
			m.Must(enginetest.Update, "tenants/"+enginetest.TenantN(n), data)
		}
		m.Must(enginetest.Delete, "tenants/"+enginetest.TenantN(3), map[string]any{"deletion_window": "720h"})
		rotation := m.Must(enginetest.Update, "tenants/"+enginetest.TenantN(4)+"/dek/rotate", nil)["rotation_id"]
		enginetest.Advance(time.Minute)
		detailed := func(limit int, after string) map[string]any {
			return m.Must(enginetest.List, "tenants", map[string]any{"detailed": true, "limit": limit, "after": after})
		}
		answer := detailed(1000, "")
		require.Equal(t, m.Must(enginetest.List, "tenants", nil)["keys"], answer["keys"])
		require.Len(t, answer["key_info"], 5)
		require.Equal(t, map[string]any{
			"display_name": "Zoë 東京 🔑", "state": "active", "current_version": 1, "last_rotated_at": nil,
			"next_rotation_at": created.AddDate(0, 0, 365).Format(time.RFC3339Nano), "overdue": false, "rotation_paused": false,
			"rotation_id": "", "rotation_status": "", "key_provider": "",
		}, infoOf(t, answer, enginetest.TenantN(0)))
		for n, want := range []map[string]any{
			1: {"rotation_paused": true, "next_rotation_at": nil},
			2: {"next_rotation_at": created.AddDate(0, 0, 90).Format(time.RFC3339Nano)},
			3: {"state": "deleting", "next_rotation_at": nil},
			4: {"current_version": 2, "last_rotated_at": created.Format(time.RFC3339Nano), "rotation_id": rotation, "rotation_status": "completed"},
		} {
			got := infoOf(t, answer, enginetest.TenantN(n))
			for field, value := range want {
				require.Equal(t, value, got[field], "%s of %d", field, n)
			}
		}
		first := detailed(2, "")
		require.Len(t, first["key_info"], 2)
		require.Equal(t, answer["keys"].([]string)[2:4], detailed(2, first["keys"].([]string)[1])["keys"])
		require.NotContains(t, m.Must(enginetest.List, "tenants", map[string]any{"detailed": false}), "key_info")
		require.NotContains(t, m.Must(enginetest.List, "tenants", map[string]any{"limit": 5000}), "key_info")

		enginetest.Advance(95 * enginetest.Day)
		require.Equal(t, true, infoOf(t, detailed(10, ""), enginetest.TenantN(2))["overdue"])
		enginetest.Advance(366 * enginetest.Day)
		after := detailed(10, "")
		require.Equal(t, true, infoOf(t, after, enginetest.TenantN(0))["overdue"])
		require.Equal(t, false, infoOf(t, after, enginetest.TenantN(1))["overdue"], "it is paused")
	})
}

func TestTenantsInDetailRefused(t *testing.T) {
	m := enginetest.WithTenant(t)
	for _, c := range []struct {
		data  map[string]any
		field string
	}{
		{map[string]any{"detailed": true}, "limit"},
		{map[string]any{"detailed": true, "limit": 1001}, "limit"},
		{map[string]any{"detailed": true, "limit": 0}, "limit"},
		{map[string]any{"detailed": true, "limit": -1}, "limit"},
		{map[string]any{"detailed": true, "limit": "many"}, "limit"},
		{map[string]any{"detailed": "perhaps", "limit": 1}, "detailed"},
		{map[string]any{"detailed": 1, "limit": 1}, "detailed"},
	} {
		m.Refused(400, c.field, enginetest.List, "tenants", c.data)
	}
}

// One record that cannot be read is said to be so, and the others are described. If none
// can be read, it is storage that fails.
func TestTenantsInDetailPastDamage(t *testing.T) {
	m := enginetest.NewMount(t)
	for n := range 3 {
		m.Must(enginetest.Update, "tenants/"+enginetest.TenantN(n), map[string]any{"display_name": "name"})
	}
	m.Close()
	for _, key := range m.Disk.Keys("tenants/") {
		if key[len("tenants/00/"):] == enginetest.TenantN(1) {
			m.Disk.Set(key, []byte("{"))
		}
	}
	again := enginetest.OpenMount(t, m.Disk, 0, storagetest.None)
	defer again.Close()
	inDetail := map[string]any{"detailed": true, "limit": 10}
	answer := again.Must(enginetest.List, "tenants", inDetail)
	require.Contains(t, infoOf(t, answer, enginetest.TenantN(1))["error"], "cannot be read")
	for _, n := range []int{0, 2} {
		require.Equal(t, "name", infoOf(t, answer, enginetest.TenantN(n))["display_name"])
		require.NotContains(t, infoOf(t, answer, enginetest.TenantN(n)), "error")
	}
	third := enginetest.Conditions{}.Open(t, m.Disk, 0, storagetest.None)
	defer third.Close()
	third.Storage.Fail(enginetest.FailOn("get", "tenants/", storagetest.Before))
	third.Start()
	resp, err := third.Call(enginetest.List, "tenants", inDetail)
	require.Equal(t, 500, enginetest.Code(resp, err))
}

func TestHistoryTellsHowRotationsStand(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := enginetest.WithTenant(t)
		defer m.Close()
		m.Rotated(nil)
		began := time.Now().UTC().Format(time.RFC3339Nano)
		m.Rotated(map[string]any{"reason": "again"})
		answer := m.Must(enginetest.List, enginetest.TenantPath("/dek/rotations"), nil)
		keys := answer["keys"].([]string)
		require.Len(t, keys, 2)
		require.Len(t, answer["key_info"], 2)
		newest := infoOf(t, answer, keys[0])
		require.Equal(t, map[string]any{
			"started_at": began, "status": "completed", "trigger": "manual",
			"initiated_by": map[string]any{"id": "root", "name": "root", "email": ""},
		}, newest)
		require.Less(t, infoOf(t, answer, keys[1])["started_at"], newest["started_at"])
		for _, id := range keys {
			object, info := m.Status(id), infoOf(t, answer, id)
			for field, value := range info {
				require.Equal(t, object[field], value, "%s of %s", field, id)
			}
		}
		part := m.Must(enginetest.List, enginetest.TenantPath("/dek/rotations"), map[string]any{"limit": 1, "after": keys[0]})
		require.Equal(t, keys[1:], part["keys"])
		require.Len(t, part["key_info"], 1)
		m.Refused(400, "after", enginetest.List, enginetest.TenantPath("/dek/rotations"), map[string]any{"after": "rot-none"})
	})
}
