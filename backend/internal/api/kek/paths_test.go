// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package kek_test

import (
	"encoding/json"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/enginetest"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/storagetest"
)

// holdKEK starts a rotation of the KEK and holds it where it has listed the
// tenants of the first part that has any.
func holdKEK(m *enginetest.Mount) (release func()) {
	<-m.Engine.Pages.Request()
	m.Must(enginetest.Update, "kek/rotate", nil)
	synctest.Wait()
	return m.Engine.Pages.Release
}

func TestNoKEKYet(t *testing.T) {
	m := enginetest.NewMount(t)
	defer m.Close()
	m.Refused(404, "made with the first tenant", enginetest.Read, "kek", nil)
	m.Refused(404, "made with the first tenant", enginetest.Update, "kek/rotate", nil)
	m.Must(enginetest.Update, enginetest.TenantPath(""), nil)
	require.Equal(t, "not_rotated", m.Must(enginetest.Read, "kek", nil)["status"])
}

func TestRotateKEK(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := enginetest.WithKeys(t)
		defer w.Close()
		w.Must(enginetest.Update, "tenants/"+enginetest.TenantN(1), nil)
		w.Must(enginetest.Update, "tenants/"+enginetest.TenantN(2), nil)
		w.Must(enginetest.Delete, "tenants/"+enginetest.TenantN(2), nil) // can be restored
		enginetest.Advance(time.Hour)
		first := w.Must(enginetest.Read, "kek", nil)
		require.Equal(t, "not_rotated", first["status"])
		require.EqualValues(t, 3601, first["age"])
		require.Empty(t, first["older_kek_ids"])
		require.Nil(t, first["started_at"])

		answered := make(chan struct{}) // no key is moved before
		w.Storage.Hook(func(op, key string) {
			if op == "list" && strings.HasPrefix(key, "keys/") {
				<-answered
			}
		})
		started := w.Must(enginetest.Update, "kek/rotate", map[string]any{"reason": "yearly"})
		close(answered)
		require.NotEqual(t, first["kek_id"], started["kek_id"])
		require.Equal(t, first["kek_id"], started["previous_kek_id"])
		require.Equal(t, []string{first["kek_id"].(string)}, started["older_kek_ids"])
		enginetest.Advance(time.Second)

		ended := w.Must(enginetest.Read, "kek", nil)
		for field, want := range map[string]any{
			"kek_id": started["kek_id"], "status": "completed", "reason": "yearly", "percent": 100.0,
			"tenants": 3, "keys": 8, "keys_failed": 0, "failures": []map[string]any{}, "older_kek_ids": []string{},
			"previous_kek_id": first["kek_id"], "age": int64(1), "started_at": started["started_at"],
			"initiated_by": map[string]any{"id": "root", "name": "root", "email": ""},
		} {
			require.Equal(t, want, ended[field], field)
		}
		require.NotNil(t, ended["completed_at"])
		require.Equal(t, []string{"kek/current", "kek/keys/" + ended["kek_id"].(string)}, w.Disk.Keys("kek/"))

		w.Wrapped()
		w.ReadsBack()
		fresh := w.On(enginetest.OpenMount(t, w.Disk, 0, storagetest.None)) // nothing is in memory
		defer fresh.Close()
		fresh.ReadsBack()
		fresh.Must(enginetest.Update, "tenants/"+enginetest.TenantN(2)+"/restore", nil)
		fresh.Works()
	})
}

func TestOneRotationOfTheKEKAtATime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := enginetest.WithKeys(t)
		defer w.Close()
		release := holdKEK(w.Mount)
		kek := w.Must(enginetest.Read, "kek", nil)["kek_id"]
		resp, err := w.Call(enginetest.Update, "kek/rotate", nil)
		require.Equal(t, 409, enginetest.Code(resp, err))
		require.ErrorContains(t, err, kek.(string))
		require.Equal(t, map[string]any{"kek_id": kek}, resp.Data["data"])
		w.Refused(409, kek.(string), enginetest.Update, "kek/rotate", map[string]any{"idempotency_key": "another"})
		release()
		enginetest.Advance(time.Second)

		again := map[string]any{"idempotency_key": "mine"}
		second := w.Must(enginetest.Update, "kek/rotate", again)["kek_id"]
		require.NotEqual(t, kek, second)
		require.Equal(t, second, w.Must(enginetest.Update, "kek/rotate", again)["kek_id"], "while it runs")
		enginetest.Advance(time.Second)
		ended := w.Must(enginetest.Update, "kek/rotate", again)
		require.Equal(t, second, ended["kek_id"], "and when it is over")
		require.Equal(t, "completed", ended["status"])
		require.NotEqual(t, second, w.Must(enginetest.Update, "kek/rotate", nil)["kek_id"])
	})
}

// Vault repeats a request after the plugin has crashed, with the same ID.
func TestRepeatedRotationOfTheKEK(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := enginetest.WithKeys(t)
		resp, err := w.CallAs("request-1", enginetest.Update, "kek/rotate", nil)
		require.NoError(t, err)
		w.Crash()
		m := enginetest.OpenMount(t, w.Disk, 0, storagetest.None)
		defer m.Close()
		again, err := m.CallAs("request-1", enginetest.Update, "kek/rotate", nil)
		require.NoError(t, err)
		require.Equal(t, resp.Data["kek_id"], again.Data["kek_id"])
	})
}

func TestRotateKEKIsRefused(t *testing.T) {
	m := enginetest.WithTenant(t)
	for says, data := range map[string]map[string]any{
		"reason must not have control characters": {"reason": "a\nb"},
		"reason must have at most 1024 bytes":     {"reason": strings.Repeat("x", 1025)},
		"reason must be":                          {"reason": []string{"a"}},
		"idempotency_key must have at most":       {"idempotency_key": strings.Repeat("x", 513)},
		"idempotency_key must not have control":   {"idempotency_key": "\x00"},
	} {
		m.Refused(400, says, enginetest.Update, "kek/rotate", data)
	}
}

// A record as it was before rotations: only the ID.
func TestOldKEKRecord(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := enginetest.WithKeys(t)
		defer w.Close()
		var rec map[string]any
		require.NoError(t, json.Unmarshal(w.Disk.Value("kek/current"), &rec))
		old, err := json.Marshal(map[string]any{"kek_id": rec["kek_id"]})
		require.NoError(t, err)
		w.Disk.Set("kek/current", old)
		kek := w.Must(enginetest.Read, "kek", nil)
		require.Equal(t, rec["kek_id"], kek["kek_id"])
		require.Nil(t, kek["created_at"])
		require.Nil(t, kek["age"])
		w.Must(enginetest.Update, "kek/rotate", nil)
		enginetest.Advance(time.Second)
		require.Equal(t, "completed", w.Must(enginetest.Read, "kek", nil)["status"])
		w.Wrapped()
		w.ReadsBack()
	})
}

// A key that does not open is reported, the rest is moved, and the old KEK is
// kept for it. The next rotation takes what was left.
func TestDamagedKeyKeepsTheOldKEK(t *testing.T) {
	for name, damage := range map[string]func([]byte) []byte{
		"a bit":     func(v []byte) []byte { v[len(v)-1] ^= 1; return v },
		"malformed": func([]byte) []byte { return []byte("rubbish") },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := enginetest.WithKeys(t)
				defer w.Close()
				var key string
				for _, k := range w.Disk.Keys("keys/") {
					if strings.HasSuffix(k, ".ext") {
						key = k
					}
				}
				whole := w.Disk.Value(key)
				w.Disk.Set(key, damage(w.Disk.Value(key)))
				old := w.Must(enginetest.Read, "kek", nil)["kek_id"]
				w.Must(enginetest.Update, "kek/rotate", nil)
				enginetest.Advance(time.Second)
				st := w.Must(enginetest.Read, "kek", nil)
				require.Equal(t, "failed", st["status"])
				require.Equal(t, 1, st["keys_failed"])
				require.Equal(t, 3, st["keys"])
				failure := st["failures"].([]map[string]any)[0]
				require.Equal(t, enginetest.TenantID, failure["tenant_id"])
				require.Contains(t, key, failure["key_id"])
				require.Equal(t, []string{old.(string)}, st["older_kek_ids"])

				w.Disk.Set(key, whole)
				w.Must(enginetest.Update, "kek/rotate", nil)
				enginetest.Advance(time.Second)
				st = w.Must(enginetest.Read, "kek", nil)
				require.Equal(t, "completed", st["status"])
				require.Empty(t, st["older_kek_ids"])
				w.Wrapped()
				w.ReadsBack()
			})
		})
	}
}

func TestFailuresOfTheKEKAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := enginetest.NewMount(t)
		defer m.Close()
		const tenants = 60
		for n := range tenants {
			m.Must(enginetest.Update, "tenants/"+enginetest.TenantN(n), nil)
		}
		for _, key := range m.Disk.Keys("keys/") {
			m.Disk.Set(key, []byte("rubbish"))
		}
		m.Must(enginetest.Update, "kek/rotate", nil)
		enginetest.Advance(time.Minute)
		st := m.Must(enginetest.Read, "kek", nil)
		require.Equal(t, "failed", st["status"])
		require.Equal(t, 2*tenants, st["keys_failed"])
		require.Len(t, st["failures"], 100)
	})
}

// Where a rotation is it says, also after a restart, and at most once a second in
// storage.
func TestProgressOfTheKEK(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := enginetest.NewMount(t)
		enginetest.Slowly(m)
		const tenants = 20
		for n := range tenants {
			m.Must(enginetest.Update, "tenants/"+enginetest.TenantN(n), nil)
		}
		var notes atomic.Int64
		m.Storage.Hook(func(op, key string) {
			switch {
			case op == "put" && strings.HasPrefix(key, "keys/"):
				<-time.After(200 * time.Millisecond)
			case op == "put" && key == "kek/progress":
				notes.Add(1)
			}
		})
		m.Must(enginetest.Update, "kek/rotate", nil)
		enginetest.Advance(4 * time.Second)
		st := m.Must(enginetest.Read, "kek", nil)
		require.Equal(t, "in_progress", st["status"])
		require.Greater(t, st["percent"], 5.0)
		require.Less(t, st["percent"], 95.0)
		require.Greater(t, st["keys"], 10)
		require.Less(t, st["tenants"], tenants)
		require.InDelta(t, 4, notes.Load(), 1)
		m.Crash()

		m = enginetest.Conditions{}.Open(t, m.Disk, 0, storagetest.None)
		defer m.Close()
		again := m.Must(enginetest.Read, "kek", nil) // before the engine takes it up, which may end it at once
		require.Equal(t, "in_progress", again["status"])
		require.GreaterOrEqual(t, again["percent"], st["percent"].(float64)-30)
		require.Positive(t, again["tenants"])
		m.Start()
		enginetest.Advance(time.Minute)
		st = m.Must(enginetest.Read, "kek", nil)
		require.Equal(t, []any{"completed", 100.0, tenants, 2 * tenants},
			[]any{st["status"], st["percent"], st["tenants"], st["keys"]})
		require.Empty(t, m.Disk.Keys("kek/progress"))
	})
}

// A standby leaves it to its leader; storage in trouble delays it and no more.
func TestRotationOfTheKEKOutlastsTrouble(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := enginetest.WithKeys(t)
		defer w.Close()
		fails := 0
		w.Storage.Fail(func(op, key string) storagetest.Fault {
			if op != "put" || !strings.HasPrefix(key, "keys/") || fails == 8 {
				return storagetest.None
			}
			fails++
			return []storagetest.Fault{storagetest.Before, storagetest.AfterStale}[fails%2]
		})
		w.Must(enginetest.Update, "kek/rotate", nil)
		enginetest.Advance(10 * time.Minute)
		w.Storage.Fail(nil)
		require.Equal(t, 8, fails)
		require.Equal(t, "completed", w.Must(enginetest.Read, "kek", nil)["status"])
		w.Wrapped()
		w.ReadsBack()
	})
}
