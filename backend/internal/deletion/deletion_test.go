// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package deletion_test

import (
	"encoding/json"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/vault/sdk/logical"
	"github.com/stretchr/testify/require"

	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/api"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/enginetest"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/storagetest"
)

func TestDeletedTenantCanBeRestored(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := enginetest.NewMount(t)
		defer m.Close()
		m.Refused(404, "tenant not found", enginetest.Delete, enginetest.TenantPath(""), nil)
		m.Refused(404, "tenant not found", enginetest.Update, enginetest.TenantPath("/restore"), nil)
		w := enginetest.NewOracle(m)
		w.Create()
		w.Bulk(30, 3000)
		w.Rotate()
		enginetest.Advance(time.Second)
		before := m.Must(enginetest.Read, enginetest.TenantPath(""), nil)

		for says, window := range map[string]any{
			"deletion_window must be from 0": "721h", "deletion_window": "soon",
			"deletion_window must be a duration": "", "deletion_window must be a duration of whole seconds, such as": 0.9,
		} {
			m.Refused(400, says, enginetest.Delete, enginetest.TenantPath(""), map[string]any{"deletion_window": window})
		}
		deleting := m.Must(enginetest.Delete, enginetest.TenantPath(""), map[string]any{"deletion_window": "24h"})
		require.Equal(t, "deleting", deleting["state"])
		require.Equal(t, api.Time(time.Now().Add(24*time.Hour)), deleting["delete_after"])
		require.Equal(t, deleting, m.Must(enginetest.Read, enginetest.TenantPath(""), nil))
		require.Equal(t, deleting, m.Must(enginetest.Delete, enginetest.TenantPath(""), nil), "again, without a window")

		m.Refused(409, "being deleted", enginetest.Update, enginetest.TenantPath(""), nil)
		for _, c := range []struct {
			op   logical.Operation
			path string
			data map[string]any
		}{
			{enginetest.Read, "/secrets/bulk/1", nil},
			{enginetest.Update, "/secrets/x", enginetest.Secret("v")},
			{enginetest.Delete, "/secrets/bulk/1", nil},
			{enginetest.List, "/secrets", nil},
			{enginetest.Update, "/items", map[string]any{"items": []any{map[string]any{"kind": "secrets", "name": "a", "data": map[string]any{}}}}},
			{enginetest.Read, "/dek", nil},
			{enginetest.Update, "/dek/rotate", nil},
			{enginetest.List, "/dek/rotations", nil},
			{enginetest.Read, "/dek/rotations/" + w.Rotations[0], nil},
			{enginetest.Update, "/dek/rotations/" + w.Rotations[0] + "/cancel", nil},
		} {
			m.Refused(404, "restore", c.op, enginetest.TenantPath(c.path), c.data)
		}

		enginetest.Advance(23 * time.Hour)
		m.Tick()
		after := m.Must(enginetest.Update, enginetest.TenantPath("/restore"), nil)
		require.Equal(t, before, after, "it comes back whole")
		require.Equal(t, after, m.Must(enginetest.Update, enginetest.TenantPath("/restore"), nil), "again")
		enginetest.Advance(48 * time.Hour)
		m.Tick()
		w.ReadsBack()
	})
}

// An older record of a tenant was put with hidden effect after the one that says that it is
// being shredded, as by an instance that tells the evidence log again. A shredding that
// goes on makes sure of the newer one before it destroys a key: after a crash nobody can
// restore a tenant without its keys.
func TestRecordIsSettledBeforeKeysAreShredded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := enginetest.NewMount(t)
		w := enginetest.NewOracle(m)
		w.Create()
		w.Put("a", "1")
		m.Must(enginetest.Delete, enginetest.TenantPath(""), map[string]any{"deletion_window": "1h"})
		enginetest.Advance(2 * time.Second) // the evidence log has it
		record := m.Disk.Keys("tenants/")[0]
		former := m.Disk.Value(record)
		m.DiesAfter("put", "tenants/")
		enginetest.Advance(2 * time.Hour)
		m.Tick()
		m.Crash()
		require.NotEqual(t, former, m.Disk.Value(record), "it is being shredded")
		require.Len(t, m.Disk.Keys("keys/"), 2)
		m.PutHidden(record, former)

		m = enginetest.OpenMount(t, m.Disk, 0, storagetest.None)
		m.DiesAfter("delete", "keys/")
		m.Tick()
		enginetest.Advance(time.Minute)
		m.Crash()
		require.Len(t, m.Disk.Keys("keys/"), 1, "one is destroyed")

		m.Disk.RestartVault()
		m = enginetest.Conditions{}.Open(t, m.Disk, 0, storagetest.None)
		defer m.Close()
		m.Refused(404, "tenant not found", enginetest.Update, enginetest.TenantPath("/restore"), nil)
		m.Start()
		enginetest.Advance(time.Minute)
		m.Tick()
		require.Empty(t, m.Disk.Keys("keys/"))
		require.Empty(t, m.Disk.Keys("tenants/"))
	})
}

func TestDeletedTenantIsShredded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := enginetest.NewMount(t)
		w := enginetest.NewOracle(m)
		w.Create()
		w.Bulk(30, 3000)
		w.Rotate()
		inc := w.Record().Incarnation
		m.Must(enginetest.Delete, enginetest.TenantPath(""), map[string]any{"deletion_window": "1h"})
		m.Close()
		m = enginetest.OpenMount(t, m.Disk, 0, storagetest.None) // a restart does not make it forget
		defer m.Close()
		enginetest.Advance(2 * time.Hour)
		m.Tick()
		m.Refused(404, "tenant not found", enginetest.Read, enginetest.TenantPath(""), nil)
		m.Refused(404, "tenant not found", enginetest.Update, enginetest.TenantPath("/restore"), nil)
		require.Nil(t, m.Must(enginetest.List, "tenants", nil)["keys"])
		for _, prefix := range []string{"keys/", "pages/", "history/", "progress/", "tenants/", "wal/", "schedule/upkeep/", "schedule/rotated/"} {
			require.Empty(t, m.Disk.Keys(prefix), prefix)
		}
		stones := m.Disk.Keys("tombstones/")
		require.Len(t, stones, 1)
		var stone map[string]any
		require.NoError(t, json.Unmarshal(m.Disk.Value(stones[0]), &stone))
		require.EqualValues(t, 2, stone["versions"])
		require.Equal(t, map[string]any{"credentials": 0.0, "api_keys": 0.0, "secrets": 30.0}, stone["items"])
		require.NotContains(t, string(m.Disk.Value(stones[0])), "dek-")

		m.Must(enginetest.Update, enginetest.TenantPath(""), nil)
		require.Nil(t, m.Must(enginetest.List, enginetest.TenantPath("/secrets"), nil)["keys"])
		m.Refused(404, "item not found", enginetest.Read, enginetest.ItemPath("bulk/1"), nil)
		require.NotEqual(t, inc, w.On(m).Record().Incarnation)
	})
}

func TestDeleteAtOnce(t *testing.T) {
	m := enginetest.WithTenant(t)
	m.Must(enginetest.Update, enginetest.ItemPath("x"), enginetest.Secret("v"))
	m.Must(enginetest.Delete, enginetest.TenantPath(""), map[string]any{"deletion_window": 0})
	m.Refused(404, "tenant not found", enginetest.Read, enginetest.TenantPath(""), nil)
	require.Empty(t, m.Disk.Keys("keys/"))
	m.Must(enginetest.Update, enginetest.TenantPath(""), nil)
	m.Refused(404, "item not found", enginetest.Read, enginetest.ItemPath("x"), nil)
}
