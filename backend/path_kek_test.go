// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package backend

import (
	"encoding/json"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/storagetest"
)

// withKeys is a mount with a tenant that has keys of every kind: of two versions,
// page and external.
func withKeys(t *testing.T) *witness {
	t.Helper()
	w := filled(t, 2)
	w.encrypt("old")
	w.rotate()
	advance(time.Second)
	w.encrypt("new")
	return w
}

// holdKEK starts a rotation of the KEK and holds it where it has listed the
// tenants of the first part that has any.
func (m *mount) holdKEK() (release func()) {
	<-m.b.Pages.Request()
	m.must(update, "kek/rotate", nil)
	synctest.Wait()
	return m.b.Pages.Release
}

func TestNoKEKYet(t *testing.T) {
	m := newMount(t)
	defer m.close()
	m.refused(404, "made with the first tenant", read, "kek", nil)
	m.refused(404, "made with the first tenant", update, "kek/rotate", nil)
	m.must(update, tenantPath(""), nil)
	require.Equal(t, "not_rotated", m.must(read, "kek", nil)["status"])
}

func TestRotateKEK(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := withKeys(t)
		defer w.close()
		w.must(update, "tenants/"+tenantN(1), nil)
		w.must(update, "tenants/"+tenantN(2), nil)
		w.must(del, "tenants/"+tenantN(2), nil) // can be restored
		advance(time.Hour)
		first := w.must(read, "kek", nil)
		require.Equal(t, "not_rotated", first["status"])
		require.EqualValues(t, 3601, first["age"])
		require.Empty(t, first["older_kek_ids"])
		require.Nil(t, first["started_at"])

		started := w.must(update, "kek/rotate", map[string]any{"reason": "yearly"})
		require.NotEqual(t, first["kek_id"], started["kek_id"])
		require.Equal(t, first["kek_id"], started["previous_kek_id"])
		require.Equal(t, []string{first["kek_id"].(string)}, started["older_kek_ids"])
		advance(time.Second)

		ended := w.must(read, "kek", nil)
		for field, want := range map[string]any{
			"kek_id": started["kek_id"], "status": "completed", "reason": "yearly", "percent": 100.0,
			"tenants": 3, "keys": 8, "keys_failed": 0, "failures": []map[string]any{}, "older_kek_ids": []string{},
			"previous_kek_id": first["kek_id"], "age": int64(1), "started_at": started["started_at"],
			"initiated_by": map[string]any{"id": "root", "name": "root", "email": ""},
		} {
			require.Equal(t, want, ended[field], field)
		}
		require.NotNil(t, ended["completed_at"])
		require.Equal(t, []string{"kek/current", "kek/keys/" + ended["kek_id"].(string)}, w.disk.Keys("kek/"))

		w.wrapped()
		w.readsBack()
		fresh := w.on(openMount(t, w.disk, 0, storagetest.None)) // nothing is in memory
		defer fresh.close()
		fresh.readsBack()
		fresh.must(update, "tenants/"+tenantN(2)+"/restore", nil)
		fresh.works()
	})
}

func TestOneRotationOfTheKEKAtATime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := withKeys(t)
		defer w.close()
		release := w.holdKEK()
		kek := w.must(read, "kek", nil)["kek_id"]
		resp, err := w.call(update, "kek/rotate", nil)
		require.Equal(t, 409, code(resp, err))
		require.ErrorContains(t, err, kek.(string))
		require.Equal(t, map[string]any{"kek_id": kek}, resp.Data["data"])
		w.refused(409, kek.(string), update, "kek/rotate", map[string]any{"idempotency_key": "another"})
		release()
		advance(time.Second)

		again := map[string]any{"idempotency_key": "mine"}
		second := w.must(update, "kek/rotate", again)["kek_id"]
		require.NotEqual(t, kek, second)
		require.Equal(t, second, w.must(update, "kek/rotate", again)["kek_id"], "while it runs")
		advance(time.Second)
		ended := w.must(update, "kek/rotate", again)
		require.Equal(t, second, ended["kek_id"], "and when it is over")
		require.Equal(t, "completed", ended["status"])
		require.NotEqual(t, second, w.must(update, "kek/rotate", nil)["kek_id"])
	})
}

// Vault repeats a request after the plugin has crashed, with the same ID.
func TestRepeatedRotationOfTheKEK(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := withKeys(t)
		resp, err := w.callAs("request-1", update, "kek/rotate", nil)
		require.NoError(t, err)
		w.crash()
		m := openMount(t, w.disk, 0, storagetest.None)
		defer m.close()
		again, err := m.callAs("request-1", update, "kek/rotate", nil)
		require.NoError(t, err)
		require.Equal(t, resp.Data["kek_id"], again.Data["kek_id"])
	})
}

func TestRotateKEKIsRefused(t *testing.T) {
	m := withTenant(t)
	for says, data := range map[string]map[string]any{
		"reason must not have control characters": {"reason": "a\nb"},
		"reason must have at most 512 bytes":      {"reason": strings.Repeat("x", 513)},
		"reason must be":                          {"reason": []string{"a"}},
		"idempotency_key must have at most":       {"idempotency_key": strings.Repeat("x", 513)},
		"idempotency_key must not have control":   {"idempotency_key": "\x00"},
	} {
		m.refused(400, says, update, "kek/rotate", data)
	}
}

// A record as it was before rotations: only the ID.
func TestOldKEKRecord(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := withKeys(t)
		defer w.close()
		var rec map[string]any
		require.NoError(t, json.Unmarshal(w.disk.Value("kek/current"), &rec))
		old, err := json.Marshal(map[string]any{"kek_id": rec["kek_id"]})
		require.NoError(t, err)
		w.disk.Set("kek/current", old)
		kek := w.must(read, "kek", nil)
		require.Equal(t, rec["kek_id"], kek["kek_id"])
		require.Nil(t, kek["created_at"])
		require.Nil(t, kek["age"])
		w.must(update, "kek/rotate", nil)
		advance(time.Second)
		require.Equal(t, "completed", w.must(read, "kek", nil)["status"])
		w.wrapped()
		w.readsBack()
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
				w := withKeys(t)
				defer w.close()
				var key string
				for _, k := range w.disk.Keys("keys/") {
					if strings.HasSuffix(k, ".ext") {
						key = k
					}
				}
				whole := w.disk.Value(key)
				w.disk.Set(key, damage(w.disk.Value(key)))
				old := w.must(read, "kek", nil)["kek_id"]
				w.must(update, "kek/rotate", nil)
				advance(time.Second)
				st := w.must(read, "kek", nil)
				require.Equal(t, "failed", st["status"])
				require.Equal(t, 1, st["keys_failed"])
				require.Equal(t, 3, st["keys"])
				failure := st["failures"].([]map[string]any)[0]
				require.Equal(t, testTenant, failure["tenant_id"])
				require.Contains(t, key, failure["key_id"])
				require.Equal(t, []string{old.(string)}, st["older_kek_ids"])

				w.disk.Set(key, whole)
				w.must(update, "kek/rotate", nil)
				advance(time.Second)
				st = w.must(read, "kek", nil)
				require.Equal(t, "completed", st["status"])
				require.Empty(t, st["older_kek_ids"])
				w.wrapped()
				w.readsBack()
			})
		})
	}
}

func TestFailuresOfTheKEKAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMount(t)
		defer m.close()
		const tenants = 60
		for n := range tenants {
			m.must(update, "tenants/"+tenantN(n), nil)
		}
		for _, key := range m.disk.Keys("keys/") {
			m.disk.Set(key, []byte("rubbish"))
		}
		m.must(update, "kek/rotate", nil)
		advance(time.Minute)
		st := m.must(read, "kek", nil)
		require.Equal(t, "failed", st["status"])
		require.Equal(t, 2*tenants, st["keys_failed"])
		require.Len(t, st["failures"], 100)
	})
}

// Where a rotation is it says, also after a restart, and at most once a second in
// storage.
func TestProgressOfTheKEK(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMount(t)
		slowly(m)
		const tenants = 20
		for n := range tenants {
			m.must(update, "tenants/"+tenantN(n), nil)
		}
		var notes atomic.Int64
		m.storage.Hook(func(op, key string) {
			switch {
			case op == "put" && strings.HasPrefix(key, "keys/"):
				<-time.After(200 * time.Millisecond)
			case op == "put" && key == "kek/progress":
				notes.Add(1)
			}
		})
		m.must(update, "kek/rotate", nil)
		advance(4 * time.Second)
		st := m.must(read, "kek", nil)
		require.Equal(t, "in_progress", st["status"])
		require.Greater(t, st["percent"], 5.0)
		require.Less(t, st["percent"], 95.0)
		require.Greater(t, st["keys"], 10)
		require.Less(t, st["tenants"], tenants)
		require.InDelta(t, 4, notes.Load(), 1)
		m.crash()

		m = openMount(t, m.disk, 0, storagetest.None)
		defer m.close()
		again := m.must(read, "kek", nil)
		require.GreaterOrEqual(t, again["percent"], st["percent"].(float64)-30)
		require.Positive(t, again["tenants"])
		advance(time.Minute)
		st = m.must(read, "kek", nil)
		require.Equal(t, []any{"completed", 100.0, tenants, 2 * tenants},
			[]any{st["status"], st["percent"], st["tenants"], st["keys"]})
		require.Empty(t, m.disk.Keys("kek/progress"))
	})
}

// A standby leaves it to its leader; storage in trouble delays it and no more.
func TestRotationOfTheKEKOutlastsTrouble(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := withKeys(t)
		defer w.close()
		fails := 0
		w.storage.Fail(func(op, key string) storagetest.Fault {
			if op != "put" || !strings.HasPrefix(key, "keys/") || fails == 8 {
				return storagetest.None
			}
			fails++
			return []storagetest.Fault{storagetest.Before, storagetest.AfterStale}[fails%2]
		})
		w.must(update, "kek/rotate", nil)
		advance(10 * time.Minute)
		w.storage.Fail(nil)
		require.Equal(t, 8, fails)
		require.Equal(t, "completed", w.must(read, "kek", nil)["status"])
		w.wrapped()
		w.readsBack()
	})
}
