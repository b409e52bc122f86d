// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package backend

import (
	"encoding/json"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/vault/sdk/logical"
	"github.com/stretchr/testify/require"

	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/api"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/storagetest"
)

// tick is what Vault does every minute.
func (m *mount) tick() {
	_, _ = m.call(logical.RollbackOperation, "", nil)
	advance(time.Minute)
}

func TestDeletedTenantCanBeRestored(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMount(t)
		defer m.close()
		m.refused(404, "tenant not found", del, tenantPath(""), nil)
		m.refused(404, "tenant not found", update, tenantPath("/restore"), nil)
		w := newWitness(m)
		w.create()
		w.bulk(30, 3000)
		w.rotate()
		advance(time.Second)
		before := m.must(read, tenantPath(""), nil)

		for says, window := range map[string]any{
			"deletion_window must be from 0": "721h", "deletion_window": "soon",
			"deletion_window must be a duration": "", "deletion_window must be a duration, such as": 0.9,
		} {
			m.refused(400, says, del, tenantPath(""), map[string]any{"deletion_window": window})
		}
		deleting := m.must(del, tenantPath(""), map[string]any{"deletion_window": "24h"})
		require.Equal(t, "deleting", deleting["state"])
		require.Equal(t, api.Time(time.Now().Add(24*time.Hour)), deleting["delete_after"])
		require.Equal(t, deleting, m.must(read, tenantPath(""), nil))
		require.Equal(t, deleting, m.must(del, tenantPath(""), nil), "again, without a window")

		m.refused(409, "being deleted", update, tenantPath(""), nil)
		for _, c := range []struct {
			op   logical.Operation
			path string
			data map[string]any
		}{
			{read, "/secrets/bulk/1", nil},
			{update, "/secrets/x", secret("v")},
			{del, "/secrets/bulk/1", nil},
			{list, "/secrets", nil},
			{update, "/items", map[string]any{"items": []any{map[string]any{"kind": "secrets", "name": "a", "data": map[string]any{}}}}},
			{read, "/dek", nil},
			{update, "/dek/rotate", nil},
			{list, "/dek/rotations", nil},
			{read, "/dek/rotations/" + w.rotations[0], nil},
			{update, "/dek/rotations/" + w.rotations[0] + "/cancel", nil},
		} {
			m.refused(404, "restore", c.op, tenantPath(c.path), c.data)
		}

		advance(23 * time.Hour)
		m.tick()
		after := m.must(update, tenantPath("/restore"), nil)
		require.Equal(t, before, after, "it comes back whole")
		require.Equal(t, after, m.must(update, tenantPath("/restore"), nil), "again")
		advance(48 * time.Hour)
		m.tick()
		w.readsBack()
	})
}

func TestDeletedTenantIsShredded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMount(t)
		w := newWitness(m)
		w.create()
		w.bulk(30, 3000)
		w.rotate()
		inc := w.record().Incarnation
		m.must(del, tenantPath(""), map[string]any{"deletion_window": "1h"})
		m.close()
		m = openMount(t, m.disk, 0, storagetest.None) // a restart does not make it forget
		defer m.close()
		advance(2 * time.Hour)
		m.tick()
		m.refused(404, "tenant not found", read, tenantPath(""), nil)
		m.refused(404, "tenant not found", update, tenantPath("/restore"), nil)
		require.Nil(t, m.must(list, "tenants", nil)["keys"])
		for _, prefix := range []string{"keys/", "pages/", "history/", "progress/", "tenants/", "wal/", "schedule/upkeep/", "schedule/rotated/"} {
			require.Empty(t, m.disk.Keys(prefix), prefix)
		}
		stones := m.disk.Keys("tombstones/")
		require.Len(t, stones, 1)
		var stone map[string]any
		require.NoError(t, json.Unmarshal(m.disk.Value(stones[0]), &stone))
		require.EqualValues(t, 2, stone["versions"])
		require.Equal(t, map[string]any{"credentials": 0.0, "api_keys": 0.0, "secrets": 30.0}, stone["items"])
		require.NotContains(t, string(m.disk.Value(stones[0])), "dek-")

		m.must(update, tenantPath(""), nil)
		require.Nil(t, m.must(list, tenantPath("/secrets"), nil)["keys"])
		m.refused(404, "item not found", read, itemPath("bulk/1"), nil)
		require.NotEqual(t, inc, w.on(m).record().Incarnation)
	})
}

func TestDeleteAtOnce(t *testing.T) {
	m := withTenant(t)
	m.must(update, itemPath("x"), secret("v"))
	m.must(del, tenantPath(""), map[string]any{"deletion_window": 0})
	m.refused(404, "tenant not found", read, tenantPath(""), nil)
	require.Empty(t, m.disk.Keys("keys/"))
	m.must(update, tenantPath(""), nil)
	m.refused(404, "item not found", read, itemPath("x"), nil)
}
