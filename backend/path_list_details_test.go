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
		m := newMount(t)
		defer m.close()
		created := time.Now().UTC()
		for n, data := range []map[string]any{
			{"display_name": "Zoë 東京 🔑"},
			{"rotation_paused": true},
			{"rotation_interval": "90_DAYS"},
			{},
			nil,
		} {
			m.must(update, "tenants/"+tenantN(n), data)
		}
		m.must(del, "tenants/"+tenantN(3), map[string]any{"deletion_window": "720h"})
		rotation := m.must(update, "tenants/"+tenantN(4)+"/dek/rotate", nil)["rotation_id"]
		advance(time.Minute)
		detailed := func(limit int, after string) map[string]any {
			return m.must(list, "tenants", map[string]any{"detailed": true, "limit": limit, "after": after})
		}
		answer := detailed(1000, "")
		require.Equal(t, m.must(list, "tenants", nil)["keys"], answer["keys"])
		require.Len(t, answer["key_info"], 5)
		require.Equal(t, map[string]any{
			"display_name": "Zoë 東京 🔑", "state": "active", "current_version": 1, "last_rotated_at": nil,
			"next_rotation_at": created.AddDate(0, 0, 365).Format(time.RFC3339Nano), "overdue": false, "rotation_paused": false,
			"rotation_id": "", "rotation_status": "", "key_provider": "",
		}, infoOf(t, answer, tenantN(0)))
		for n, want := range []map[string]any{
			1: {"rotation_paused": true, "next_rotation_at": nil},
			2: {"next_rotation_at": created.AddDate(0, 0, 90).Format(time.RFC3339Nano)},
			3: {"state": "deleting", "next_rotation_at": nil},
			4: {"current_version": 2, "last_rotated_at": created.Format(time.RFC3339Nano), "rotation_id": rotation, "rotation_status": "completed"},
		} {
			got := infoOf(t, answer, tenantN(n))
			for field, value := range want {
				require.Equal(t, value, got[field], "%s of %d", field, n)
			}
		}
		first := detailed(2, "")
		require.Len(t, first["key_info"], 2)
		require.Equal(t, answer["keys"].([]string)[2:4], detailed(2, first["keys"].([]string)[1])["keys"])
		require.NotContains(t, m.must(list, "tenants", map[string]any{"detailed": false}), "key_info")
		require.NotContains(t, m.must(list, "tenants", map[string]any{"limit": 5000}), "key_info")

		advance(95 * day)
		require.Equal(t, true, infoOf(t, detailed(10, ""), tenantN(2))["overdue"])
		advance(366 * day)
		after := detailed(10, "")
		require.Equal(t, true, infoOf(t, after, tenantN(0))["overdue"])
		require.Equal(t, false, infoOf(t, after, tenantN(1))["overdue"], "it is paused")
	})
}

func TestTenantsInDetailRefused(t *testing.T) {
	m := withTenant(t)
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
		m.refused(400, c.field, list, "tenants", c.data)
	}
}

// One record that cannot be read is said to be so, and the others are described. If none
// can be read, it is storage that fails.
func TestTenantsInDetailPastDamage(t *testing.T) {
	m := newMount(t)
	for n := range 3 {
		m.must(update, "tenants/"+tenantN(n), map[string]any{"display_name": "name"})
	}
	m.close()
	for _, key := range m.disk.Keys("tenants/") {
		if key[len("tenants/00/"):] == tenantN(1) {
			m.disk.Set(key, []byte("{"))
		}
	}
	again := openMount(t, m.disk, 0, storagetest.None)
	defer again.close()
	inDetail := map[string]any{"detailed": true, "limit": 10}
	answer := again.must(list, "tenants", inDetail)
	require.Contains(t, infoOf(t, answer, tenantN(1))["error"], "cannot be read")
	for _, n := range []int{0, 2} {
		require.Equal(t, "name", infoOf(t, answer, tenantN(n))["display_name"])
		require.NotContains(t, infoOf(t, answer, tenantN(n)), "error")
	}
	third := openMount(t, m.disk, 0, storagetest.None)
	defer third.close()
	third.storage.Fail(on("get", "tenants/", storagetest.Before))
	resp, err := third.call(list, "tenants", inDetail)
	require.Equal(t, 500, code(resp, err))
}

func TestHistoryTellsHowRotationsStand(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := withTenant(t)
		defer m.close()
		m.rotated(nil)
		began := time.Now().UTC().Format(time.RFC3339Nano)
		m.rotated(map[string]any{"reason": "again"})
		answer := m.must(list, tenantPath("/dek/rotations"), nil)
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
			object, info := m.status(id), infoOf(t, answer, id)
			for field, value := range info {
				require.Equal(t, object[field], value, "%s of %s", field, id)
			}
		}
		part := m.must(list, tenantPath("/dek/rotations"), map[string]any{"limit": 1, "after": keys[0]})
		require.Equal(t, keys[1:], part["keys"])
		require.Len(t, part["key_info"], 1)
		m.refused(400, "after", list, tenantPath("/dek/rotations"), map[string]any{"after": "rot-none"})
	})
}
