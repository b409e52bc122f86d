// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package backend

import (
	"encoding/json"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/vault/sdk/framework"
	"github.com/hashicorp/vault/sdk/logical"
	"github.com/stretchr/testify/require"

	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/storagetest"
)

// entry puts an entry into the write-ahead log that is as old as the log can be.
func (m *mount) entry(id, kind string, data map[string]any) {
	m.t.Helper()
	value, err := json.Marshal(map[string]any{"type": kind, "data": data, "created_at": 0})
	require.NoError(m.t, err)
	m.disk.Set(framework.WALPrefix+id, value)
}

// Entries of the log that lead nowhere: those that can be settled are, those that
// cannot be made out are kept and logged once, and none keeps another from being
// worked on.
func TestStaleLogEntries(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := filled(t, 8)
		w.must(update, "tenants/"+tenantN(1), nil)
		gone := map[string]any{
			"tenant_id": tenantN(1), "incarnation": w.incarnationOf(tenantN(1)), "rotation_id": "rot-1", "key_id": "dek-1",
		}
		w.must(del, "tenants/"+tenantN(1), map[string]any{"deletion_window": 0})
		_, release := w.holdRotation()
		w.storage.Kill()
		release()
		w.close()

		inc := w.record().Incarnation
		current := func(rotation, key string) map[string]any {
			return map[string]any{"tenant_id": testTenant, "incarnation": inc, "rotation_id": rotation, "key_id": key}
		}
		w.entry("deleted", "rotation", gone)
		w.entry("unknown-tenant", "rotation", map[string]any{
			"tenant_id": tenantN(2), "incarnation": "00", "rotation_id": "rot-2", "key_id": "dek-2",
		})
		w.entry("another-life", "rotation", map[string]any{
			"tenant_id": testTenant, "incarnation": "00", "rotation_id": "rot-3", "key_id": "dek-3",
		})
		w.entry("never-started", "rotation", current("rot-4", "dek-4"))
		w.entry("over", "rotation", current("rot-5", w.record().Keys.Versions[0].KeyID))
		kept := []string{"damaged", "empty", "incomplete", "mistyped", "unknown-kind"}
		w.disk.Set(framework.WALPrefix+"damaged", []byte("{not JSON"))
		w.disk.Set(framework.WALPrefix+"empty", []byte{})
		w.entry("incomplete", "rotation", map[string]any{"tenant_id": testTenant})
		w.entry("mistyped", "rotation", map[string]any{"tenant_id": 1, "key_id": []int{2}})
		w.entry("unknown-kind", "of-another-version", current("rot-6", "dek-6"))

		var log logged
		m := conditions{log: log.logger()}.engine(t, w.disk, 0, storagetest.None)
		w = w.on(m)
		defer w.close()
		w.start()
		for range 30 {
			w.tick()
			_, _ = w.call(logical.RollbackOperation, "", map[string]any{"immediate": true})
			require.Nil(t, w.must(list, "rotations", nil)["keys"])
		}
		require.Equal(t, "completed", w.status(w.rotations[0])["status"])
		for i, id := range kept {
			kept[i] = framework.WALPrefix + id
			require.Len(t, log.lines("wal_id="+id), 1, id)
		}
		require.Equal(t, kept, w.disk.Keys(framework.WALPrefix))
		require.Empty(t, log.lines("trying again"))
		for _, key := range kept {
			w.disk.Set(key, nil)
		}
		w.readsBack()
		w.atRest()
		w.works()
	})
}

// The rollback of a log entry never deletes what a rotation that is under way needs
// after a crash.
func TestRollbackOfARunningRotation(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := filled(t, 25)
		id, release := w.holdRotation()
		for range 3 {
			advance(time.Hour)
			_, _ = w.call(logical.RollbackOperation, "", nil)
			_, _ = w.call(logical.RollbackOperation, "", map[string]any{"immediate": true})
		}
		require.Len(t, w.disk.Keys(framework.WALPrefix), 1)
		w.storage.Kill()
		release()
		w.close()
		w = w.on(openMount(t, w.disk, 0, storagetest.None))
		defer w.close()
		advance(time.Minute)
		require.Equal(t, "completed", w.status(id)["status"])
		w.readsBack()
		w.atRest()
	})
}

// incarnationOf reads a tenant's incarnation from disk.
func (m *mount) incarnationOf(tenant string) string {
	m.t.Helper()
	for _, key := range m.disk.Keys("tenants/") {
		var rec struct {
			ID          string `json:"tenant_id"`
			Incarnation string `json:"incarnation"`
		}
		require.NoError(m.t, json.Unmarshal(m.disk.Value(key), &rec))
		if rec.ID == tenant {
			return rec.Incarnation
		}
	}
	require.Fail(m.t, "no such tenant")
	return ""
}
