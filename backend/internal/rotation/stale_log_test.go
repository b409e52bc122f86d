// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package rotation_test

import (
	"context"
	"encoding/json"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/vault/sdk/framework"
	"github.com/hashicorp/vault/sdk/logical"
	"github.com/stretchr/testify/require"

	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/enginetest"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/storagetest"
)

// entry puts an entry into the write-ahead log that is as old as the log can be.
func entry(m *enginetest.Mount, id, kind string, data map[string]any) {
	m.T.Helper()
	value, err := json.Marshal(map[string]any{"type": kind, "data": data, "created_at": 0})
	require.NoError(m.T, err)
	m.Disk.Set(framework.WALPrefix+id, value)
}

// Entries of the log that lead nowhere: those that can be settled are, those that
// cannot be made out are kept and logged once, and none keeps another from being
// worked on.
func TestStaleLogEntries(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := enginetest.Filled(t, 8)
		w.Must(enginetest.Update, "tenants/"+enginetest.TenantN(1), nil)
		gone := map[string]any{
			"tenant_id": enginetest.TenantN(1), "incarnation": incarnationOf(w.Mount, enginetest.TenantN(1)), "rotation_id": "rot-1", "key_id": "dek-1",
		}
		w.Must(enginetest.Delete, "tenants/"+enginetest.TenantN(1), map[string]any{"deletion_window": 0})
		_, release := w.HoldRotation()
		w.Storage.Kill()
		release()
		w.Close()

		inc := w.Record().Incarnation
		current := func(rotation, key string) map[string]any {
			return map[string]any{"tenant_id": enginetest.TenantID, "incarnation": inc, "rotation_id": rotation, "key_id": key}
		}
		entry(w.Mount, "deleted", "rotation", gone)
		entry(w.Mount, "unknown-tenant", "rotation", map[string]any{
			"tenant_id": enginetest.TenantN(2), "incarnation": "00", "rotation_id": "rot-2", "key_id": "dek-2",
		})
		entry(w.Mount, "another-life", "rotation", map[string]any{
			"tenant_id": enginetest.TenantID, "incarnation": "00", "rotation_id": "rot-3", "key_id": "dek-3",
		})
		entry(w.Mount, "never-started", "rotation", current("rot-4", "dek-4"))
		entry(w.Mount, "over", "rotation", current("rot-5", w.Record().Keys.Versions[0].KeyID))
		entry(w.Mount, "shared", "shared", map[string]any{"intents": []any{
			current("rot-7", "dek-7"),
			current("rot-5", w.Record().Keys.Versions[0].KeyID),
			map[string]any{"tenant_id": enginetest.TenantN(3), "incarnation": "00"},
		}})
		kept := []string{"damaged", "empty", "incomplete", "mistyped", "unknown-kind"}
		w.Disk.Set(framework.WALPrefix+"damaged", []byte("{not JSON"))
		w.Disk.Set(framework.WALPrefix+"empty", []byte{})
		entry(w.Mount, "incomplete", "rotation", map[string]any{"tenant_id": enginetest.TenantID})
		entry(w.Mount, "mistyped", "rotation", map[string]any{"tenant_id": 1, "key_id": []int{2}})
		entry(w.Mount, "unknown-kind", "of-another-version", current("rot-6", "dek-6"))

		var log enginetest.Logged
		m := enginetest.Conditions{Log: log.Logger()}.Open(t, w.Disk, 0, storagetest.None)
		w = w.On(m)
		defer w.Close()
		w.Start()
		for range 30 {
			w.Tick()
			_, _ = w.Call(logical.RollbackOperation, "", map[string]any{"immediate": true})
			require.Nil(t, w.Must(enginetest.List, "rotations", nil)["keys"])
		}
		require.Equal(t, "completed", w.Status(w.Rotations[0])["status"])
		for i, id := range kept {
			kept[i] = framework.WALPrefix + id
			require.Len(t, log.Lines("wal_id="+id), 1, id)
		}
		require.Equal(t, kept, w.Disk.Keys(framework.WALPrefix))
		require.Empty(t, log.Lines("trying again"))
		for _, key := range kept {
			w.Disk.Set(key, nil)
		}
		w.ReadsBack()
		w.AtRest()
		w.Works()
	})
}

// The rollback of a log entry never deletes what a rotation that is under way needs
// after a crash.
func TestRollbackOfARunningRotation(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := enginetest.Filled(t, 25)
		id, release := w.HoldRotation()
		for range 3 {
			enginetest.Advance(time.Hour)
			_, _ = w.Call(logical.RollbackOperation, "", nil)
			_, _ = w.Call(logical.RollbackOperation, "", map[string]any{"immediate": true})
		}
		require.Len(t, w.Disk.Keys(framework.WALPrefix), 1)
		w.Storage.Kill()
		release()
		w.Close()
		w = w.On(enginetest.OpenMount(t, w.Disk, 0, storagetest.None))
		defer w.Close()
		enginetest.Advance(time.Minute)
		require.Equal(t, "completed", w.Status(id)["status"])
		w.ReadsBack()
		w.AtRest()
	})
}

// incarnationOf reads a tenant's incarnation from disk.
func incarnationOf(m *enginetest.Mount, tenant string) string {
	m.T.Helper()
	for _, key := range m.Disk.Keys("tenants/") {
		var rec struct {
			ID          string `json:"tenant_id"`
			Incarnation string `json:"incarnation"`
		}
		require.NoError(m.T, json.Unmarshal(m.Disk.Value(key), &rec))
		if rec.ID == tenant {
			return rec.Incarnation
		}
	}
	require.Fail(m.T, "no such tenant")
	return ""
}

// One entry of the log that cannot be read keeps no other from being taken up.
func TestMalformedLogEntryIsPassedOver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := enginetest.Filled(t, 4)
		id, release := enginetest.RotateAndHold(w.Mount)
		w.Storage.Kill()
		release()
		w.Close()
		_, err := framework.PutWAL(context.Background(), storagetest.Open(w.Disk, 0, storagetest.None), "rotation", map[string]any{"key_id": 1})
		require.NoError(t, err)
		m := enginetest.OpenMount(t, w.Disk, 0, storagetest.None)
		defer m.Close()
		enginetest.Advance(time.Minute)
		require.Equal(t, "completed", m.Status(id)["status"])
		require.Nil(t, m.Must(enginetest.List, "rotations/", nil)["keys"])
	})
}

// A rotation of which the log has two intents, as after a retry that a restart followed, is
// listed once.
func TestRotationWithTwoIntentsIsListedOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := enginetest.Filled(t, 8)
		defer w.Close()
		id, release := w.HoldRotation()
		r := w.Record().Rotation
		entry(w.Mount, "of-an-earlier-try", "rotation", map[string]any{
			"tenant_id": enginetest.TenantID, "incarnation": w.Record().Incarnation, "rotation_id": id, "key_id": r.ToKeyID,
		})
		require.Equal(t, []string{enginetest.TenantID + "/" + id}, w.Must(enginetest.List, "rotations", nil)["keys"])
		release()
		enginetest.Advance(time.Minute)
		w.Tick()
		enginetest.Advance(time.Minute)
		require.Empty(t, w.Disk.Keys(framework.WALPrefix))
	})
}
