// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package backend

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/jobs"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/storagetest"
)

// retained is a tenant with items, whose retired keys are kept, on an engine that has
// just begun.
func retained(t *testing.T, items int) *witness {
	t.Helper()
	w := filled(t, items)
	w.must(update, "config", map[string]any{"retired_key_retention": "168h"})
	w.close()
	return w.on(openMount(t, w.disk, 0, storagetest.None))
}

// damageKey damages the entry at key, as Vault's barrier reports it.
func (w *witness) damageKey(key string) {
	w.t.Helper()
	require.Equal(w.t, 1, w.disk.Damage(storagetest.ErrAltered, func(k string) bool { return k == key }), key)
}

// afresh stops the engine and starts another, which has nothing in memory.
func (w *witness) afresh() *witness {
	w.close()
	return w.on(openMount(w.t, w.disk, 0, storagetest.None))
}

// recordKeyOf is the key of the tenant's record.
func recordKeyOf(*witness) string {
	return "tenants/" + shardName(testTenant) + "/" + testTenant
}

func (w *witness) reads(item string) int {
	resp, err := w.call(read, itemPath(item), nil)
	return code(resp, err)
}

// A rotation goes past a page that cannot be read, tells it, keeps the old key, and
// retry finishes it once the page can be read again.
func TestRotationGoesPastAnUnreadablePage(t *testing.T) {
	for name, damage := range map[string]error{"altered": storagetest.ErrAltered, "no reason": storagetest.ErrUnread} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := retained(t, 40)
				defer func() { w.close() }()
				bad := w.largestPage()
				pages := len(w.pageKeys())
				require.Equal(t, 1, w.disk.Damage(damage, func(key string) bool { return key == bad }))
				if damage == storagetest.ErrUnread {
					_, err := w.call(update, tenantPath("/dek/rotate"), nil)
					require.Error(t, err, "it may pass")
					w.rests(8)
				}
				w.rotate()
				w.rests(2)
				st := w.status(w.rotations[0])
				require.Equal(t, "failed", st["status"])
				require.GreaterOrEqual(t, st["items_failed"], 1)
				require.Len(t, st["failures"], 1)
				v := w.versionList()
				require.Equal(t, "deactivated", v[0]["state"])
				require.Equal(t, pages-1, v[1]["pages"])
				require.Contains(t, w.must(read, "status", nil)["failed_tenants"], testTenant)
				require.Equal(t, map[string]int{"pages": 1}, w.must(read, "status", nil)["damaged_entries"])

				w.disk.Heal()
				w = w.afresh()
				w.must(update, action(w.rotations[0], "retry"), nil)
				w.rests(1)
				require.Equal(t, "completed", w.status(w.rotations[0])["status"])
				w.readsBack()
			})
		})
	}
}

// A cancelled rotation ends, too, and keeps both keys.
func TestCancelEndsBesideAnUnreadablePage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := retained(t, 40)
		defer w.close()
		w.midSweep(func() {
			w.damageKey(w.largestPage())
			w.act("cancel", "failed")
		})
		w.rests(2)
		require.Equal(t, "failed", w.status(w.rotations[0])["status"])
		for _, v := range w.versionList() {
			require.NotEqual(t, "destroyed", v["state"], "version %v", v["version"])
		}
		require.Empty(t, w.disk.Keys("wal/"))
	})
}

// Deletion at once goes through whatever is damaged, and is not answered 204 while keys
// are left.
func TestDeletionGoesThroughDamage(t *testing.T) {
	entries := map[string]func(w *witness) string{
		"pages/":   func(w *witness) string { return "pages/" + w.record().Incarnation },
		"keys/":    func(w *witness) string { return "keys/" + w.record().Incarnation },
		"history/": func(w *witness) string { return "history/" + w.record().Incarnation },
		"wal/":     func(*witness) string { return "wal/" },
		"seals/":   func(w *witness) string { return "seals/" + w.record().Incarnation },
	}
	for name, prefix := range entries {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := retained(t, 25)
				defer func() { w.close() }()
				w.rotate()
				w.rests(1)
				w.holdAfter("pages/")
				w.rotate()
				synctest.Wait()
				w.crash()
				inc := w.record().Incarnation
				below := prefix(w)
				w.disk.Damage(storagetest.ErrAltered, storagetest.Below(below))
				w = w.on(openMount(t, w.disk, 0, storagetest.None))
				resp, err := w.call(del, tenantPath(""), map[string]any{"deletion_window": 0})
				require.NoError(t, err)
				require.Nil(t, resp, "204")
				require.Empty(t, w.disk.Keys("keys/"+inc))
				w.rests(3)
				for _, left := range []string{"pages/", "history/", "seals/", "progress/"} {
					require.Empty(t, w.disk.Keys(left+inc))
				}
				require.Len(t, w.disk.Keys("tombstones/"), 1)
			})
		})
	}
}

func TestDeletionTellsOfKeysThatItCannotList(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := retained(t, 5)
		defer w.close()
		rec := w.record()
		w.disk.Set("keys/"+rec.Incarnation+"/dek-unknown", []byte("left by a start that broke off"))
		w.disk.DamageList(storagetest.ErrAltered, "keys/"+rec.Incarnation+"/")
		resp, err := w.call(del, tenantPath(""), map[string]any{"deletion_window": 0})
		require.Equal(t, 500, code(resp, err))
		require.ErrorContains(t, err, "damaged")
		require.Len(t, w.disk.Keys("keys/"+rec.Incarnation), 1, "those that the record names are gone")
		w.tick()
		require.Contains(t, w.must(read, "status", nil)["blocked_tenants"].(map[string]string)[testTenant], "damaged")
		resp, err = w.call(del, tenantPath(""), map[string]any{"deletion_window": 0})
		require.Equal(t, 500, code(resp, err), "asked again: %v", resp)

		w.disk.Heal()
		w.tick()
		require.Empty(t, w.disk.Keys("keys/"+rec.Incarnation))
		require.Empty(t, w.must(read, "status", nil)["blocked_tenants"])
	})
}

// An intent that cannot be read: the others are taken up, and the tenant's rotation is
// found by its record.
func TestUnreadableIntent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := retained(t, 25)
		defer func() { w.close() }()
		other := "tenants/" + wholeTenant
		w.must(update, other, nil)
		w.must(update, other+"/secrets/a", secret("v"))
		w.holdAfter("pages/")
		w.rotate()
		synctest.Wait()
		id := w.must(update, other+"/dek/rotate", nil)["rotation_id"].(string)
		synctest.Wait()
		w.crash()
		intent := w.record().Rotation.IntentID
		require.Len(t, w.disk.Keys("wal/"), 2)
		w.damageKey("wal/" + intent)

		w = w.on(openMount(t, w.disk, 0, storagetest.None))
		w.must(read, "status", nil)
		w.must(list, "rotations", nil)
		advance(time.Second)
		require.Equal(t, "completed", w.must(read, other+"/dek/rotations/"+id, nil)["status"], "at once")
		w.rests(2)
		require.Equal(t, "completed", w.status(w.rotations[0])["status"])
		require.Empty(t, w.disk.Keys("wal/"))
		w.must(update, "rotations", map[string]any{"all": true})
		w.rests(1)
		require.Equal(t, "requested", w.rotationsOf(wholeTenant)[0]["trigger"])
		w.readsBack()
	})
}

func TestUnreadableRecord(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := retained(t, 25)
		defer func() { w.close() }()
		w.holdAfter("pages/")
		w.rotate()
		synctest.Wait()
		w.crash()
		w.damageKey(recordKeyOf(w))
		w = w.on(openMount(t, w.disk, 0, storagetest.None))
		resp, err := w.call(read, tenantPath(""), nil)
		require.Equal(t, 500, code(resp, err))
		require.ErrorContains(t, err, testTenant)
		keys := len(w.disk.Keys("keys/"))
		resp, err = w.call(del, tenantPath(""), map[string]any{"deletion_window": 0})
		require.Equal(t, 409, code(resp, err))
		require.ErrorContains(t, err, "only its record tells which keys are its own")
		require.Len(t, w.disk.Keys("keys/"), keys)
		w.rests(2)
		require.NotEmpty(t, w.must(read, "status", nil)["blocked_tenants"].(map[string]string)[testTenant])
		w.must(list, "rotations", nil)

		w.disk.Heal()
		w.rests(3)
		require.Equal(t, "completed", w.status(w.rotations[0])["status"])
		require.Empty(t, w.must(read, "status", nil)["blocked_tenants"])
		w.readsBack()
	})
}

// The rotation of the KEK goes on with the rest, and keeps the KEK that the damaged key
// is under.
func TestKEKRotationGoesPastAnUnreadableKey(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := retained(t, 5)
		defer func() { w.close() }()
		w.must(update, "tenants/"+wholeTenant, nil)
		bad := "keys/" + w.record().Incarnation + "/" + w.record().Keys.Active().KeyID
		w.damageKey(bad)
		w.must(update, "kek/rotate", nil)
		w.rests(1)
		kek := w.must(read, "kek", nil)
		require.Equal(t, "failed", kek["status"])
		require.Len(t, kek["failures"], 1)
		require.Len(t, w.disk.Keys("kek/keys/"), 2)
		w.disk.Heal()
		w.readsBack()
		w.must(update, "kek/rotate", nil)
		w.rests(1)
		require.Equal(t, "completed", w.must(read, "kek", nil)["status"])
		require.Len(t, w.disk.Keys("kek/keys/"), 1)
		w.readsBack()
	})
}

// A rotation that enters a key which cannot be read ends failed and gives its place in
// the budget back; the next one makes another key.
func TestRotationToAnUnreadableKeyMakesWay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := retained(t, 25)
		defer func() { w.close() }()
		w.must(update, "config", map[string]any{"max_concurrent_rotations": 1, "scheduler_jitter": 0})
		<-w.b.Pages.Request() // no page is moved
		w.must(update, "rotations", map[string]any{"tenants": []any{testTenant}})
		synctest.Wait()
		w.crash()
		w.damageKey("keys/" + w.record().Incarnation + "/" + w.record().Rotation.ToKeyID)
		w = w.on(openMount(t, w.disk, 0, storagetest.None))
		w.rests(2)
		require.Equal(t, "failed", w.latest()["status"])
		require.True(t, w.b.Schedule.Budget().Empty())
		resp, err := w.call(update, action(w.record().Last.ID, "retry"), nil)
		require.Equal(t, 409, code(resp, err))
		require.ErrorContains(t, err, "start a new rotation")
		w.hourly(26 * time.Hour)
		require.Len(t, w.rotationsOf(testTenant), 2)
		require.Equal(t, "completed", w.latest()["status"])
		w.readsBack()
	})
}

// A key whose count of seals cannot be read seals no more, and is replaced.
func TestKeyWithoutItsCountIsReplaced(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMount(t)
		w := newWitness(m)
		w.createAES()
		for range 5 {
			w.put("a", "1")
		}
		w = w.afresh()
		defer func() { w.close() }()
		require.Positive(t, w.disk.Damage(storagetest.ErrAltered, storagetest.Below("seals/")))
		v := w.versionList()[0]
		require.Equal(t, v["seal_limit"], v["page_seals"], "at most so many")
		resp, err := w.call(update, itemPath("a"), secret("2"))
		require.Equal(t, 503, code(resp, err))
		w.rests(2)
		w.put("a", "2")
		w.readsBack()
		require.Len(t, w.versionList(), 2)
	})
}

func TestConfigurationIsRepairedByWriting(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := retained(t, 5)
		defer func() { w.close() }()
		w.rotate()
		w.rests(1)
		w.damageKey("config")
		w = w.afresh()
		resp, err := w.call(read, "config", nil)
		require.Equal(t, 500, code(resp, err))
		require.ErrorContains(t, err, "config: damaged in storage")
		w.put("a", "writes go on")
		w.must(read, itemPath("a"), nil)
		resp, err = w.call(del, tenantPath(""), map[string]any{"deletion_window": "24h"})
		require.Equal(t, 400, code(resp, err))
		require.ErrorContains(t, err, "720h")
		w.hourly(9 * day)
		require.Equal(t, "deactivated", w.versionList()[0]["state"], "nothing is destroyed")

		resp, err = w.call(update, "config", map[string]any{"retired_key_retention": "48h", "org_id": "mine"})
		require.NoError(t, err)
		require.Len(t, resp.Warnings, 1)
		require.EqualValues(t, (720 * time.Hour).Seconds(), resp.Data["min_deletion_window"])
		require.EqualValues(t, (48 * time.Hour).Seconds(), w.must(read, "config", nil)["retired_key_retention"])
		resp, err = w.call(update, "config", map[string]any{"min_deletion_window": 0})
		require.NoError(t, err)
		require.Empty(t, resp.Warnings)
		require.NotNil(t, resp.Data["min_deletion_window_pending"], "damage does not shorten it")
		w.rests(1)
		require.Equal(t, "destroyed", w.versionList()[0]["state"])
		w.readsBack()
	})
}

func TestRotationSettingsAreRepairedByWriting(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := retained(t, 5)
		defer func() { w.close() }()
		w.must(update, "key/rotationSettings", map[string]any{"rotation_interval": "180_DAYS"})
		w.damageKey("settings")
		w = w.afresh()
		resp, err := w.call(read, "key/rotationSettings", nil)
		require.Equal(t, 500, code(resp, err))
		require.ErrorContains(t, err, "settings: damaged in storage")
		w.hourly(93 * day)
		require.Len(t, w.rotationsOf(testTenant), 1, "by the shortest interval")
		resp, err = w.call(update, "key/rotationSettings", map[string]any{"rotation_interval": "365_DAYS"})
		require.NoError(t, err)
		require.Len(t, resp.Warnings, 1)
		require.Equal(t, "365_DAYS", w.must(read, "key/rotationSettings", nil)["rotation_interval"])
	})
}

// An emergency is served although the settings, which hold it, are damaged.
func TestAllAreRotatedThoughTheSettingsAreDamaged(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := retained(t, 5)
		defer func() { w.close() }()
		w.must(update, "key/rotationSettings", map[string]any{"rotation_interval": "180_DAYS"})
		w.damageKey("settings")
		w = w.afresh()
		advance(time.Second)
		w.must(update, "rotations", map[string]any{"all": true})
		w.rests(2)
		require.Equal(t, []any{"requested", "completed"}, []any{w.latest()["trigger"], w.latest()["status"]})
	})
}

// Descriptions that cannot be read keep nothing from being done.
func TestUnreadableHistory(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := retained(t, 5)
		defer func() { w.close() }()
		for range 3 {
			w.rotate()
			w.rests(1)
		}
		history := w.disk.Keys("history/")
		require.Len(t, history, 3)
		w.damageKey(history[0])
		w.damageKey(history[2])
		w = w.afresh()
		require.Len(t, w.must(list, tenantPath("/dek/rotations"), nil)["keys"], 2, "the latest is in the record")
		w.rotate()
		w.rests(1)
		require.Equal(t, "completed", w.status(w.rotations[3])["status"])
		require.Equal(t, "completed", w.status(w.rotations[2])["status"], "it was written again")
		resp, err := w.call(read, tenantPath("/dek/rotations/"+w.rotations[0]), nil)
		require.Equal(t, 500, code(resp, err))
		w.readsBack()
	})
}

// The log names each damaged entry once, however often it is met.
func TestDamageIsLoggedOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := retained(t, 5)
		w.holdAfter("pages/")
		w.rotate()
		synctest.Wait()
		w.crash()
		w.damageKey(recordKeyOf(w))
		var log logged
		m := conditions{log: log.logger()}.engine(t, w.disk, 0, storagetest.None)
		m.start()
		w = w.on(m)
		defer w.close()
		w.rests(30)
		require.Len(t, log.lines("an entry of storage is damaged"), 1)
		require.LessOrEqual(t, len(log.lines(testTenant)), 3, "%s", strings.Join(log.lines(testTenant), ""))
		require.Empty(t, log.lines("could not serve every tenant"))
		require.Less(t, m.storage.Ops(), 30*int(time.Minute/jobs.MaxPause)*20)
	})
}

// What errors say of a damaged entry never quotes it.
func TestDamageIsNamedAndNotQuoted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := retained(t, 5)
		defer func() { w.close() }()
		w.disk.Set("config", []byte(`{"org_id":"hidden`))
		w.disk.Set("settings", []byte(`{"rotation_interval":"hidden`))
		w = w.afresh()
		for _, path := range []string{"config", "key/rotationSettings"} {
			_, err := w.call(read, path, nil)
			require.ErrorContains(t, err, "malformed")
			require.NotContains(t, err.Error(), "hidden")
		}
		answer, err := json.Marshal(w.must(read, "status", nil))
		require.NoError(t, err)
		require.NotContains(t, fmt.Sprintf("%s", answer), "hidden")
	})
}
