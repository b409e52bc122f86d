// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package outage

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/enginetest"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/storagetest"
)

// retained is a tenant with items, whose retired keys are kept, on an engine that has
// just begun.
func retained(t *testing.T, items int) *enginetest.Oracle {
	t.Helper()
	w := enginetest.Filled(t, items)
	w.Must(enginetest.Update, "config", map[string]any{"retired_key_retention": "168h"})
	w.Close()
	return w.On(enginetest.OpenMount(t, w.Disk, 0, storagetest.None))
}

// damageKey damages the entry at key, as Vault's barrier reports it.
func damageKey(w *enginetest.Oracle, key string) {
	w.T.Helper()
	require.Equal(w.T, 1, w.Disk.Damage(storagetest.ErrAltered, func(k string) bool { return k == key }), key)
}

// afresh stops the engine and starts another, which has nothing in memory.
func afresh(w *enginetest.Oracle) *enginetest.Oracle {
	w.Close()
	return w.On(enginetest.OpenMount(w.T, w.Disk, 0, storagetest.None))
}

// recordKeyOf is the key of the tenant's record.
func recordKeyOf(*enginetest.Oracle) string {
	return "tenants/" + enginetest.ShardName(enginetest.TenantID) + "/" + enginetest.TenantID
}

func reads(w *enginetest.Oracle, item string) int {
	resp, err := w.Call(enginetest.Read, enginetest.ItemPath(item), nil)
	return enginetest.Code(resp, err)
}

// A rotation goes past a page that cannot be read, tells it, keeps the old key, and
// retry finishes it once the page can be read again.
func TestRotationGoesPastAnUnreadablePage(t *testing.T) {
	for name, damage := range map[string]error{"altered": storagetest.ErrAltered, "no reason": storagetest.ErrUnread} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := retained(t, 40)
				defer func() { w.Close() }()
				bad := w.LargestPage()
				pages := len(w.PageKeys())
				require.Equal(t, 1, w.Disk.Damage(damage, func(key string) bool { return key == bad }))
				if errors.Is(damage, storagetest.ErrUnread) {
					_, err := w.Call(enginetest.Update, enginetest.TenantPath("/dek/rotate"), nil)
					require.Error(t, err, "it may pass")
					w.Rests(8)
				}
				w.Rotate()
				w.Rests(2)
				st := w.Status(w.Rotations[0])
				require.Equal(t, "failed", st["status"])
				require.GreaterOrEqual(t, st["items_failed"], 1)
				require.Len(t, st["failures"], 1)
				v := w.VersionList()
				require.Equal(t, "deactivated", v[0]["state"])
				require.Equal(t, pages-1, v[1]["pages"])
				require.Contains(t, w.Must(enginetest.Read, "status", nil)["failed_tenants"], enginetest.TenantID)
				require.Equal(t, map[string]int{"pages": 1}, w.Must(enginetest.Read, "status", nil)["damaged_entries"])

				w.Disk.Heal()
				w = afresh(w)
				w.Must(enginetest.Update, enginetest.Action(w.Rotations[0], "retry"), nil)
				w.Rests(1)
				require.Equal(t, "completed", w.Status(w.Rotations[0])["status"])
				w.ReadsBack()
			})
		})
	}
}

// A cancelled rotation ends, too, and keeps both keys.
func TestCancelEndsBesideAnUnreadablePage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := retained(t, 40)
		defer w.Close()
		w.MidSweep(func() {
			damageKey(w, w.LargestPage())
			w.Act("cancel", "failed")
		})
		w.Rests(2)
		require.Equal(t, "failed", w.Status(w.Rotations[0])["status"])
		for _, v := range w.VersionList() {
			require.NotEqual(t, "destroyed", v["state"], "version %v", v["version"])
		}
		require.Empty(t, w.Disk.Keys("wal/"))
	})
}

// Deletion at once goes through whatever is damaged, and is not answered 204 while keys
// are left.
func TestDeletionGoesThroughDamage(t *testing.T) {
	entries := map[string]func(w *enginetest.Oracle) string{
		"pages/":   func(w *enginetest.Oracle) string { return "pages/" + w.Record().Incarnation },
		"keys/":    func(w *enginetest.Oracle) string { return "keys/" + w.Record().Incarnation },
		"history/": func(w *enginetest.Oracle) string { return "history/" + w.Record().Incarnation },
		"wal/":     func(*enginetest.Oracle) string { return "wal/" },
		"seals/":   func(w *enginetest.Oracle) string { return "seals/" + w.Record().Incarnation },
	}
	for name, prefix := range entries {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := retained(t, 25)
				defer func() { w.Close() }()
				w.Rotate()
				w.Rests(1)
				diesInASweep(w)
				inc := w.Record().Incarnation
				below := prefix(w)
				w.Disk.Damage(storagetest.ErrAltered, storagetest.Below(below))
				w = w.On(enginetest.OpenMount(t, w.Disk, 0, storagetest.None))
				resp, err := w.Call(enginetest.Delete, enginetest.TenantPath(""), map[string]any{"deletion_window": 0})
				require.NoError(t, err)
				require.Nil(t, resp, "204")
				require.Empty(t, w.Disk.Keys("keys/"+inc))
				w.Rests(3)
				for _, left := range []string{"pages/", "history/", "seals/", "progress/"} {
					require.Empty(t, w.Disk.Keys(left+inc))
				}
				require.Len(t, w.Disk.Keys("tombstones/"), 1)
			})
		})
	}
}

func TestDeletionTellsOfKeysThatItCannotList(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := retained(t, 5)
		defer w.Close()
		rec := w.Record()
		w.Disk.Set("keys/"+rec.Incarnation+"/dek-unknown", []byte("left by a start that broke off"))
		w.Disk.DamageList(storagetest.ErrAltered, "keys/"+rec.Incarnation+"/")
		resp, err := w.Call(enginetest.Delete, enginetest.TenantPath(""), map[string]any{"deletion_window": 0})
		require.Equal(t, 500, enginetest.Code(resp, err))
		require.ErrorContains(t, err, "damaged")
		require.Len(t, w.Disk.Keys("keys/"+rec.Incarnation), 1, "those that the record names are gone")
		w.Tick() // the record may be put once more for the evidence log, and is told of at the next look
		w.Tick()
		require.Contains(t, w.Must(enginetest.Read, "status", nil)["blocked_tenants"].(map[string]string)[enginetest.TenantID], "damaged")
		resp, err = w.Call(enginetest.Delete, enginetest.TenantPath(""), map[string]any{"deletion_window": 0})
		require.Equal(t, 500, enginetest.Code(resp, err), "asked again: %v", resp)

		w.Disk.Heal()
		w.Tick()
		require.Empty(t, w.Disk.Keys("keys/"+rec.Incarnation))
		require.Empty(t, w.Must(enginetest.Read, "status", nil)["blocked_tenants"])
	})
}

// An intent that cannot be read: the others are taken up, and the tenant's rotation is
// found by its record.
func TestUnreadableIntent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := retained(t, 25)
		defer func() { w.Close() }()
		other := "tenants/" + wholeTenant
		w.Must(enginetest.Update, other, nil)
		w.Must(enginetest.Update, other+"/secrets/a", enginetest.Secret("v"))
		w.HoldAfter("pages/")
		w.Rotate()
		synctest.Wait()
		id := w.Must(enginetest.Update, other+"/dek/rotate", nil)["rotation_id"].(string)
		synctest.Wait()
		w.Crash()
		intent := w.Record().Rotation.IntentID
		require.Len(t, w.Disk.Keys("wal/"), 2)
		damageKey(w, "wal/"+intent)

		w = w.On(enginetest.OpenMount(t, w.Disk, 0, storagetest.None))
		w.Must(enginetest.Read, "status", nil)
		w.Must(enginetest.List, "rotations", nil)
		enginetest.Advance(time.Second)
		require.Equal(t, "completed", w.Must(enginetest.Read, other+"/dek/rotations/"+id, nil)["status"], "at once")
		w.Rests(2)
		require.Equal(t, "completed", w.Status(w.Rotations[0])["status"])
		require.Empty(t, w.Disk.Keys("wal/"))
		w.Must(enginetest.Update, "rotations", map[string]any{"all": true})
		w.Rests(1)
		require.Equal(t, "requested", w.RotationsOf(wholeTenant)[0]["trigger"])
		w.ReadsBack()
	})
}

func TestUnreadableRecord(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := retained(t, 25)
		defer func() { w.Close() }()
		diesInASweep(w)
		damageKey(w, recordKeyOf(w))
		w = w.On(enginetest.OpenMount(t, w.Disk, 0, storagetest.None))
		resp, err := w.Call(enginetest.Read, enginetest.TenantPath(""), nil)
		require.Equal(t, 500, enginetest.Code(resp, err))
		require.ErrorContains(t, err, enginetest.TenantID)
		keys := len(w.Disk.Keys("keys/"))
		resp, err = w.Call(enginetest.Delete, enginetest.TenantPath(""), map[string]any{"deletion_window": 0})
		require.Equal(t, 409, enginetest.Code(resp, err))
		require.ErrorContains(t, err, "only its record tells which keys are its own")
		require.Len(t, w.Disk.Keys("keys/"), keys)
		w.Rests(2)
		require.NotEmpty(t, w.Must(enginetest.Read, "status", nil)["blocked_tenants"].(map[string]string)[enginetest.TenantID])
		w.Must(enginetest.List, "rotations", nil)

		w.Disk.Heal()
		w.Rests(3)
		require.Equal(t, "completed", w.Status(w.Rotations[0])["status"])
		require.Empty(t, w.Must(enginetest.Read, "status", nil)["blocked_tenants"])
		w.ReadsBack()
	})
}

// The rotation of the KEK goes on with the rest, and keeps the KEK that the damaged key
// is under.
func TestKEKRotationGoesPastAnUnreadableKey(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := retained(t, 5)
		defer func() { w.Close() }()
		w.Must(enginetest.Update, "tenants/"+wholeTenant, nil)
		bad := "keys/" + w.Record().Incarnation + "/" + w.Record().Keys.Active().KeyID
		damageKey(w, bad)
		w.Must(enginetest.Update, "kek/rotate", nil)
		w.Rests(1)
		kek := w.Must(enginetest.Read, "kek", nil)
		require.Equal(t, "failed", kek["status"])
		require.Len(t, kek["failures"], 1)
		require.Len(t, w.Disk.Keys("kek/keys/"), 2)
		w.Disk.Heal()
		w.ReadsBack()
		w.Must(enginetest.Update, "kek/rotate", nil)
		w.Rests(1)
		require.Equal(t, "completed", w.Must(enginetest.Read, "kek", nil)["status"])
		require.Len(t, w.Disk.Keys("kek/keys/"), 1)
		w.ReadsBack()
	})
}

// A rotation that enters a key which cannot be read ends failed and gives its place in
// the budget back; the next one makes another key.
func TestRotationToAnUnreadableKeyMakesWay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := retained(t, 25)
		defer func() { w.Close() }()
		w.Must(enginetest.Update, "config", map[string]any{"max_concurrent_rotations": 1, "scheduler_jitter": 0})
		<-w.Engine.Pages.Request() // no page is moved
		w.Must(enginetest.Update, "rotations", map[string]any{"tenants": []any{enginetest.TenantID}})
		synctest.Wait()
		w.Crash()
		damageKey(w, "keys/"+w.Record().Incarnation+"/"+w.Record().Rotation.ToKeyID)
		w = w.On(enginetest.OpenMount(t, w.Disk, 0, storagetest.None))
		w.Rests(2)
		require.Equal(t, "failed", w.Latest()["status"])
		require.True(t, w.Engine.Schedule.Budget().Empty())
		resp, err := w.Call(enginetest.Update, enginetest.Action(w.Record().Last.ID, "retry"), nil)
		require.Equal(t, 409, enginetest.Code(resp, err))
		require.ErrorContains(t, err, "start a new rotation")
		w.Hourly(26 * time.Hour)
		require.Len(t, w.RotationsOf(enginetest.TenantID), 2)
		require.Equal(t, "completed", w.Latest()["status"])
		w.ReadsBack()
	})
}
