// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package backend

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/keystore"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/storagetest"
)

// The count is of what is truly sealed: of every page that is written, of every
// ciphertext, of nothing else.
func TestSealsAreCounted(t *testing.T) {
	inFakeTime(t, func(m *mount) {
		m.rotated(map[string]any{"key_type": "aes256-gcm"})
		w := newWitness(m)
		seals := func() []int64 {
			v := m.versionList()
			active := v[len(v)-1]
			return []int64{active["page_seals"].(int64), active["external_seals"].(int64)}
		}
		require.Equal(t, []int64{0, 0}, seals(), "there was no page")
		w.put("a", "1")
		require.Equal(t, []int64{1, 0}, seals())
		m.must(read, itemPath("a"), nil)
		w.encrypt("x")
		w.datakey("wrapped")
		w.rewrap()
		w.opens()
		require.Equal(t, []int64{1, 3}, seals())
		entry := map[string]any{"plaintext": ""}
		m.must(update, tenantPath("/encrypt"), map[string]any{"batch_input": []any{entry, entry, entry}})
		require.Equal(t, []int64{1, 6}, seals())
		w.bulk(40, 3000)
		pages := int64(len(m.disk.Keys("pages/")))
		before := seals()[0]
		require.Greater(t, before, pages)
		m.rotated(nil)
		require.Equal(t, []int64{pages, 0}, seals(), "a new key counts from the beginning")
		m.rotated(map[string]any{"key_type": "xaes256-gcm"})
		for _, v := range m.versionList() {
			_, shown := v["page_seals"]
			_, external := v["external_seals"]
			_, limit := v["seal_limit"]
			counted := v["key_type"] == "aes256-gcm" && v["state"] != "destroyed"
			require.Equal(t, []bool{counted, counted, counted}, []bool{shown, external, limit})
			if counted {
				require.Equal(t, []int64{0, 6}, []int64{v["page_seals"].(int64), v["external_seals"].(int64)}, "of a page key that is gone")
			}
		}
		keys := m.disk.Keys("seals/")
		require.Len(t, keys, 1, "of version 2, whose external key is there")
		require.True(t, strings.HasSuffix(keys[0], m.versionList()[1]["key_id"].(string)))
	})
}

// wearing is a mount with a tenant whose key is worn after some seals.
func wearing(t *testing.T, soft, hard int64, f func(w *witness)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		m := newMount(t)
		m.limitSeals(keystore.SealLimits{First: 1, Largest: 1, Soft: soft, Hard: hard})
		slowly(m)
		w := newWitness(m)
		w.createAES()
		f(w)
		w.close()
	})
}

// reopened is the engine after a restart, with the same limits.
func (w *witness) reopened(soft, hard int64) *witness {
	w.t.Helper()
	w.close()
	again := w.on(openMount(w.t, w.disk, 0, storagetest.None))
	again.limitSeals(keystore.SealLimits{First: 1, Largest: 1, Soft: soft, Hard: hard})
	return again
}

// A key that has sealed as much as it may refuses, and changes nothing. What does
// not seal goes on, and so does a rotation, after which everything does.
func TestExhaustedKeySealsNoMore(t *testing.T) {
	const soft, hard = 1 << 20, 6
	wearing(t, soft, hard, func(w *witness) {
		for range hard {
			w.put("a", "kept")
			w.encrypt("kept")
		}
		ciphertext := w.outside.sealed[0]
		again := map[string]any{"ciphertext": ciphertext.ciphertext, "associated_data": ciphertext.ad}
		entry := map[string]any{"plaintext": ""}
		check := func() {
			for path, data := range map[string]map[string]any{
				"/secrets/a":         secret("lost"),
				"/secrets/b":         secret("lost"),
				"/encrypt":           entry,
				"/rewrap":            again,
				"/datakey/wrapped":   nil,
				"/datakey/plaintext": nil,
			} {
				w.refused(503, "as many messages as aes256-gcm allows", update, tenantPath(path), data)
			}
			w.refused(503, "rotate it", update, tenantPath("/encrypt"), map[string]any{"batch_input": []any{entry, entry}})
			w.refused(503, "rotate it", del, itemPath("a"), nil)
			body := map[string]any{"items": []any{map[string]any{"kind": "secrets", "name": "b", "data": map[string]any{}}}}
			results := w.must(update, tenantPath("/items"), body)["results"].([]map[string]any)
			require.Contains(w.t, results[0]["error"], "rotate it")
			w.readsBack()
		}
		check()
		w = w.reopened(soft, hard)
		check()
		v := w.versionList()[0]
		require.Equal(w.t, []any{int64(hard), int64(hard), int64(hard)}, []any{v["page_seals"], v["external_seals"], v["seal_limit"]})

		w.rotated(nil)
		w.put("a", "new")
		w.encrypt("new")
		w.readsBack()
		w.close()
	})
}

// At the soft limit the schedule rotates at its next look, whatever the interval
// and rotation_paused say, and once.
func TestScheduleReplacesAWornKey(t *testing.T) {
	for name, seal := range map[string]func(*witness){
		"page key":     func(w *witness) { w.put("a", "x") },
		"external key": func(w *witness) { w.encrypt("x") },
	} {
		t.Run(name, func(t *testing.T) {
			const soft, hard = 5, 100
			wearing(t, soft, hard, func(w *witness) {
				w.must(update, tenantPath(""), map[string]any{"rotation_paused": true})
				for range soft - 1 {
					seal(w)
				}
				w.tick()
				require.Empty(t, w.rotationsOf(testTenant))
				seal(w)
				w.tick()
				got := w.rotationsOf(testTenant)
				require.Len(t, got, 1)
				require.Equal(t, "scheduled", got[0]["trigger"])
				require.Equal(t, "completed", got[0]["status"])
				require.Equal(t, "version 1 nears the 100 messages that a key of type aes256-gcm may seal", got[0]["reason"])
				require.Equal(t, true, w.must(read, tenantPath(""), nil)["rotation_paused"], "as it was")
				for range 3 {
					w.tick()
				}
				require.Len(t, w.rotationsOf(testTenant), 1)
				require.Empty(t, w.b.Keys.OverLimit())

				// What a key has sealed is not forgotten by a restart, and it is due as
				// soon as it seals again.
				for range soft {
					seal(w)
				}
				w = w.reopened(soft, hard)
				w.tick()
				require.Len(t, w.rotationsOf(testTenant), 1)
				seal(w)
				w.tick()
				require.Len(t, w.rotationsOf(testTenant), 2)
				w.readsBack()
				w.close()
			})
		})
	}
}

// A rotation cannot be cancelled back onto a worn key, and a paused one does not
// keep a worn key in use.
func TestWornKeyIsNotGoneBackTo(t *testing.T) {
	const soft, hard = 30, 100
	wearing(t, soft, hard, func(w *witness) {
		for range soft {
			w.encrypt("x")
		}
		w.bulk(20, 3000)
		w.midSweep(func() {
			id := w.rotations[0]
			w.refused(409, "cannot move pages to version 1", update, action(id, "cancel"), nil)
			w.must(update, action(id, "pause"), nil)
		})
		advance(time.Minute)
		require.Equal(w.t, "paused", w.status(w.rotations[0])["status"])
		for range soft {
			w.encrypt("under the new version")
		}
		w.tick() // resumes it
		require.Equal(w.t, "completed", w.status(w.rotations[0])["status"])
		w.tick()
		got := w.rotationsOf(testTenant)
		require.Len(w.t, got, 2)
		require.Equal(w.t, "scheduled", got[0]["trigger"])
		require.Equal(w.t, 3, w.must(read, tenantPath("/dek"), nil)["current_version"])
		w.readsBack()
	})
}

// A rollback whose target is worn while it is paused goes on, and makes way.
func TestPausedRollbackOntoAWornKeyGoesOn(t *testing.T) {
	const soft, hard = 60, 200
	wearing(t, soft, hard, func(w *witness) {
		w.bulk(20, 3000)
		w.midSweep(func() {
			w.act("cancel", "rolled_back")
			w.act("pause", "paused")
		})
		for range soft {
			w.put("bulk/1", "under the old version")
		}
		w.tick()
		require.Equal(w.t, "rolled_back", w.status(w.rotations[0])["status"])
		w.tick()
		got := w.rotationsOf(testTenant)
		require.Len(w.t, got, 2)
		require.Equal(w.t, []any{"scheduled", "completed"}, []any{got[0]["trigger"], got[0]["status"]})
		w.readsBack()
	})
}

// A failed rotation is not retried towards a worn key; a new one takes what was
// left.
func TestRetryNeedsAKeyThatIsNotWorn(t *testing.T) {
	const soft, hard = 60, 200
	wearing(t, soft, hard, func(w *witness) {
		w.bulk(20, 3000)
		w.damage()
		w.rotate()
		advance(time.Second)
		require.Equal(w.t, "failed", w.status(w.rotations[0])["status"])
		w.damage()
		for range soft {
			w.encrypt("x")
		}
		w.refused(409, "cannot move pages to version 2", update, action(w.rotations[0], "retry"), nil)
		w.tick()
		require.Equal(w.t, "completed", w.rotationsOf(testTenant)[0]["status"])
		w.readsBack()
		w.ends[w.rotations[0]] = []string{"failed"}
		w.atRest()
	})
}

// To repeat a cancel while it is carried out changes nothing, and is no conflict.
func TestRepeatedCancelOntoAKeyThatIsWornSince(t *testing.T) {
	inFakeTime(t, func(m *mount) {
		m.rotated(map[string]any{"key_type": "aes256-gcm"})
		w := newWitness(m)
		w.put("a", "1")
		m.must(update, "config", map[string]any{"rotation_parallelism": 1})
		m.b.Pages.Request() // hold it
		id := m.must(update, tenantPath("/dek/rotate"), nil)["rotation_id"].(string)
		require.Equal(t, "rolling_back", m.must(update, action(id, "cancel"), nil)["status"])
		m.b.Keys.LimitSeals(keystore.SealLimits{First: 1, Largest: 1, Soft: 1, Hard: 1 << 20})
		for range 3 {
			w.put("a", "2")
		}
		resp, err := m.call(update, action(id, "cancel"), nil)
		require.Equal(t, 200, code(resp, err), "%v", err)
		m.b.Pages.Release()
	})
}
