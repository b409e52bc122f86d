// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package keystore_test

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/enginetest"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/keystore"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/storagetest"
)

// The count is of what is truly sealed: of every page that is written, of every
// ciphertext, of nothing else.
func TestSealsAreCounted(t *testing.T) {
	enginetest.InFakeTime(t, func(m *enginetest.Mount) {
		m.Rotated(map[string]any{"key_type": "aes256-gcm"})
		w := enginetest.NewOracle(m)
		seals := func() []int64 {
			v := m.VersionList()
			active := v[len(v)-1]
			return []int64{active["page_seals"].(int64), active["external_seals"].(int64)}
		}
		require.Equal(t, []int64{0, 0}, seals(), "there was no page")
		w.Put("a", "1")
		require.Equal(t, []int64{1, 0}, seals())
		m.Must(enginetest.Read, enginetest.ItemPath("a"), nil)
		w.Encrypt("x")
		w.Datakey("wrapped")
		w.Rewrap()
		w.Opens()
		require.Equal(t, []int64{1, 3}, seals())
		entry := map[string]any{"plaintext": ""}
		m.Must(enginetest.Update, enginetest.TenantPath("/encrypt"), map[string]any{"batch_input": []any{entry, entry, entry}})
		require.Equal(t, []int64{1, 6}, seals())
		w.Bulk(40, 3000)
		pages := int64(len(m.Disk.Keys("pages/")))
		before := seals()[0]
		require.Greater(t, before, pages)
		m.Rotated(nil)
		require.Equal(t, []int64{pages, 0}, seals(), "a new key counts from the beginning")
		m.Rotated(map[string]any{"key_type": "xaes256-gcm"})
		for _, v := range m.VersionList() {
			_, shown := v["page_seals"]
			_, external := v["external_seals"]
			_, limit := v["seal_limit"]
			counted := v["key_type"] == "aes256-gcm" && v["state"] != "destroyed"
			require.Equal(t, []bool{counted, counted, counted}, []bool{shown, external, limit})
			if counted {
				require.Equal(t, []int64{0, 6}, []int64{v["page_seals"].(int64), v["external_seals"].(int64)}, "of a page key that is gone")
			}
		}
		keys := m.Disk.Keys("seals/")
		require.Len(t, keys, 1, "of version 2, whose external key is there")
		require.True(t, strings.HasSuffix(keys[0], m.VersionList()[1]["key_id"].(string)))
	})
}

// wearing is a mount with a tenant whose key is worn after some seals.
func wearing(t *testing.T, soft, hard int64, f func(w *enginetest.Oracle)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		m := enginetest.NewMount(t)
		m.LimitSeals(keystore.SealLimits{First: 1, Largest: 1, Soft: soft, Hard: hard})
		enginetest.Slowly(m)
		enginetest.Advance(time.Second) // the first reading of all records ends with a round
		w := enginetest.NewOracle(m)
		w.CreateAES()
		f(w)
		w.Close()
	})
}

// reopened is the engine after a restart, with the same limits.
func reopened(w *enginetest.Oracle, soft, hard int64) *enginetest.Oracle {
	w.T.Helper()
	w.Close()
	again := w.On(enginetest.OpenMount(w.T, w.Disk, 0, storagetest.None))
	again.LimitSeals(keystore.SealLimits{First: 1, Largest: 1, Soft: soft, Hard: hard})
	return again
}

// A key that has sealed as much as it may refuses, and changes nothing. What does
// not seal goes on, and so does a rotation, after which everything does.
func TestExhaustedKeySealsNoMore(t *testing.T) {
	const soft, hard = 1 << 20, 6
	wearing(t, soft, hard, func(w *enginetest.Oracle) {
		for range hard {
			w.Put("a", "kept")
			w.Encrypt("kept")
		}
		ciphertext := w.External.Sealed[0]
		again := map[string]any{"ciphertext": ciphertext.Ciphertext, "associated_data": ciphertext.AD}
		entry := map[string]any{"plaintext": ""}
		check := func() {
			for path, data := range map[string]map[string]any{
				"/secrets/a":         enginetest.Secret("lost"),
				"/secrets/b":         enginetest.Secret("lost"),
				"/encrypt":           entry,
				"/rewrap":            again,
				"/datakey/wrapped":   nil,
				"/datakey/plaintext": nil,
			} {
				w.Refused(503, "as many messages as aes256-gcm allows", enginetest.Update, enginetest.TenantPath(path), data)
			}
			w.Refused(503, "rotate it", enginetest.Update, enginetest.TenantPath("/encrypt"), map[string]any{"batch_input": []any{entry, entry}})
			w.Refused(503, "rotate it", enginetest.Delete, enginetest.ItemPath("a"), nil)
			body := map[string]any{"items": []any{map[string]any{"kind": "secrets", "name": "b", "data": map[string]any{}}}}
			results := w.Must(enginetest.Update, enginetest.TenantPath("/items"), body)["results"].([]map[string]any)
			require.Contains(w.T, results[0]["error"], "rotate it")
			w.ReadsBack()
		}
		check()
		w = reopened(w, soft, hard)
		check()
		v := w.VersionList()[0]
		require.Equal(w.T, []any{int64(hard), int64(hard), int64(hard)}, []any{v["page_seals"], v["external_seals"], v["seal_limit"]})

		w.Rotated(nil)
		w.Put("a", "new")
		w.Encrypt("new")
		w.ReadsBack()
		w.Close()
	})
}

// At the soft limit the schedule rotates at its next look, whatever the interval
// and rotation_paused say, and once.
func TestScheduleReplacesAWornKey(t *testing.T) {
	for name, seal := range map[string]func(*enginetest.Oracle){
		"page key":     func(w *enginetest.Oracle) { w.Put("a", "x") },
		"external key": func(w *enginetest.Oracle) { w.Encrypt("x") },
	} {
		t.Run(name, func(t *testing.T) {
			const soft, hard = 5, 100
			wearing(t, soft, hard, func(w *enginetest.Oracle) {
				w.Must(enginetest.Update, enginetest.TenantPath(""), map[string]any{"rotation_paused": true})
				for range soft - 1 {
					seal(w)
				}
				w.Tick()
				require.Empty(t, w.RotationsOf(enginetest.TenantID))
				seal(w)
				w.Tick()
				got := w.RotationsOf(enginetest.TenantID)
				require.Len(t, got, 1)
				require.Equal(t, "scheduled", got[0]["trigger"])
				require.Equal(t, "completed", got[0]["status"])
				require.Equal(t, "version 1 nears the 100 messages that a key of type aes256-gcm may seal", got[0]["reason"])
				require.Equal(t, true, w.Must(enginetest.Read, enginetest.TenantPath(""), nil)["rotation_paused"], "as it was")
				for range 3 {
					w.Tick()
				}
				require.Len(t, w.RotationsOf(enginetest.TenantID), 1)
				require.Empty(t, w.Engine.Keys.OverLimit())

				// What a key has sealed is not forgotten by a restart, and it is due as
				// soon as it seals again.
				for range soft {
					seal(w)
				}
				w = reopened(w, soft, hard)
				w.Tick()
				require.Len(t, w.RotationsOf(enginetest.TenantID), 1)
				seal(w)
				w.Tick()
				require.Len(t, w.RotationsOf(enginetest.TenantID), 2)
				w.ReadsBack()
				w.Close()
			})
		})
	}
}

// A rotation cannot be cancelled back onto a worn key, and a paused one does not
// keep a worn key in use.
func TestWornKeyIsNotGoneBackTo(t *testing.T) {
	const soft, hard = 30, 100
	wearing(t, soft, hard, func(w *enginetest.Oracle) {
		for range soft {
			w.Encrypt("x")
		}
		w.Bulk(20, 3000)
		w.MidSweep(func() {
			id := w.Rotations[0]
			w.Refused(409, "cannot move pages to version 1", enginetest.Update, enginetest.Action(id, "cancel"), nil)
			w.Must(enginetest.Update, enginetest.Action(id, "pause"), nil)
		})
		enginetest.Advance(time.Minute)
		require.Equal(w.T, "paused", w.Status(w.Rotations[0])["status"])
		for range soft {
			w.Encrypt("under the new version")
		}
		w.Tick() // resumes it
		require.Equal(w.T, "completed", w.Status(w.Rotations[0])["status"])
		w.Tick()
		got := w.RotationsOf(enginetest.TenantID)
		require.Len(w.T, got, 2)
		require.Equal(w.T, "scheduled", got[0]["trigger"])
		require.Equal(w.T, 3, w.Must(enginetest.Read, enginetest.TenantPath("/dek"), nil)["current_version"])
		w.ReadsBack()
	})
}

// A rollback whose target is worn while it is paused goes on, and makes way.
func TestPausedRollbackOntoAWornKeyGoesOn(t *testing.T) {
	const soft, hard = 60, 200
	wearing(t, soft, hard, func(w *enginetest.Oracle) {
		w.Bulk(20, 3000)
		w.MidSweep(func() {
			w.Act("cancel", "rolled_back")
			w.Act("pause", "paused")
		})
		for range soft {
			w.Put("bulk/1", "under the old version")
		}
		w.Tick()
		require.Equal(w.T, "rolled_back", w.Status(w.Rotations[0])["status"])
		w.Tick()
		got := w.RotationsOf(enginetest.TenantID)
		require.Len(w.T, got, 2)
		require.Equal(w.T, []any{"scheduled", "completed"}, []any{got[0]["trigger"], got[0]["status"]})
		w.ReadsBack()
	})
}

// A failed rotation is not retried towards a worn key; a new one takes what was
// left.
func TestRetryNeedsAKeyThatIsNotWorn(t *testing.T) {
	const soft, hard = 60, 200
	wearing(t, soft, hard, func(w *enginetest.Oracle) {
		w.Bulk(20, 3000)
		w.Damage()
		w.Rotate()
		enginetest.Advance(time.Second)
		require.Equal(w.T, "failed", w.Status(w.Rotations[0])["status"])
		w.Damage()
		for range soft {
			w.Encrypt("x")
		}
		w.Refused(409, "cannot move pages to version 2", enginetest.Update, enginetest.Action(w.Rotations[0], "retry"), nil)
		w.Tick()
		require.Equal(w.T, "completed", w.RotationsOf(enginetest.TenantID)[0]["status"])
		w.ReadsBack()
		w.Ends[w.Rotations[0]] = []string{"failed"}
		w.AtRest()
	})
}

// To repeat a cancel while it is carried out changes nothing, and is no conflict.
func TestRepeatedCancelOntoAKeyThatIsWornSince(t *testing.T) {
	enginetest.InFakeTime(t, func(m *enginetest.Mount) {
		m.Rotated(map[string]any{"key_type": "aes256-gcm"})
		w := enginetest.NewOracle(m)
		w.Put("a", "1")
		m.Must(enginetest.Update, "config", map[string]any{"rotation_parallelism": 1})
		m.Engine.Pages.Request() // hold it
		id := m.Must(enginetest.Update, enginetest.TenantPath("/dek/rotate"), nil)["rotation_id"].(string)
		require.Equal(t, "rolling_back", m.Must(enginetest.Update, enginetest.Action(id, "cancel"), nil)["status"])
		m.Engine.Keys.LimitSeals(keystore.SealLimits{First: 1, Largest: 1, Soft: 1, Hard: 1 << 20})
		for range 3 {
			w.Put("a", "2")
		}
		resp, err := m.Call(enginetest.Update, enginetest.Action(id, "cancel"), nil)
		require.Equal(t, 200, enginetest.Code(resp, err), "%v", err)
		m.Engine.Pages.Release()
	})
}
