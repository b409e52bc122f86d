// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package outage

import (
	"encoding/json"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/enginetest"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/jobs"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/storagetest"
)

// A key whose count of seals cannot be read seals no more, and is replaced.
func TestKeyWithoutItsCountIsReplaced(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := enginetest.NewMount(t)
		w := enginetest.NewOracle(m)
		w.CreateAES()
		for range 5 {
			w.Put("a", "1")
		}
		w = afresh(w)
		defer func() { w.Close() }()
		require.Positive(t, w.Disk.Damage(storagetest.ErrAltered, storagetest.Below("seals/")))
		v := w.VersionList()[0]
		require.Equal(t, v["seal_limit"], v["page_seals"], "at most so many")
		resp, err := w.Call(enginetest.Update, enginetest.ItemPath("a"), enginetest.Secret("2"))
		require.Equal(t, 503, enginetest.Code(resp, err))
		w.Rests(2)
		w.Put("a", "2")
		w.ReadsBack()
		require.Len(t, w.VersionList(), 2)
	})
}

func TestConfigurationIsRepairedByWriting(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := retained(t, 5)
		defer func() { w.Close() }()
		w.Rotate()
		w.Rests(1)
		damageKey(w, "config")
		w = afresh(w)
		w.KeysMayStay = true // while the retention cannot be read
		resp, err := w.Call(enginetest.Read, "config", nil)
		require.Equal(t, 500, enginetest.Code(resp, err))
		require.ErrorContains(t, err, "config: damaged in storage")
		w.Put("a", "writes go on")
		w.Must(enginetest.Read, enginetest.ItemPath("a"), nil)
		resp, err = w.Call(enginetest.Delete, enginetest.TenantPath(""), map[string]any{"deletion_window": "24h"})
		require.Equal(t, 400, enginetest.Code(resp, err))
		require.ErrorContains(t, err, "720h")
		w.Hourly(9 * enginetest.Day)
		require.Equal(t, "deactivated", w.VersionList()[0]["state"], "nothing is destroyed")

		resp, err = w.Call(enginetest.Update, "config", map[string]any{"retired_key_retention": "48h", "org_id": "mine"})
		require.NoError(t, err)
		require.Len(t, resp.Warnings, 1)
		logged := w.SettingsLogged()
		require.Equal(t, "mine", logged["org_id"])
		require.Equal(t, "2592000", logged["min_deletion_window"], "the log has all that is in force")
		require.EqualValues(t, (720 * time.Hour).Seconds(), resp.Data["min_deletion_window"])
		require.EqualValues(t, (48 * time.Hour).Seconds(), w.Must(enginetest.Read, "config", nil)["retired_key_retention"])
		resp, err = w.Call(enginetest.Update, "config", map[string]any{"min_deletion_window": 0})
		require.NoError(t, err)
		require.Empty(t, resp.Warnings)
		require.NotNil(t, resp.Data["min_deletion_window_pending"], "damage does not shorten it")
		w.Rests(1)
		require.Equal(t, "destroyed", w.VersionList()[0]["state"])
		w.ReadsBack()
	})
}

func TestRotationSettingsAreRepairedByWriting(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := retained(t, 5)
		defer func() { w.Close() }()
		w.Must(enginetest.Update, "key/rotationSettings", map[string]any{"rotation_interval": "180_DAYS"})
		enginetest.Advance(time.Second) // what the change does in the background
		damageKey(w, "settings")
		w = afresh(w)
		resp, err := w.Call(enginetest.Read, "key/rotationSettings", nil)
		require.Equal(t, 500, enginetest.Code(resp, err))
		require.ErrorContains(t, err, "settings: damaged in storage")
		w.Hourly(93 * enginetest.Day)
		require.Len(t, w.RotationsOf(enginetest.TenantID), 1, "by the shortest interval")
		resp, err = w.Call(enginetest.Update, "key/rotationSettings", map[string]any{"rotation_interval": "365_DAYS"})
		require.NoError(t, err)
		require.Len(t, resp.Warnings, 1)
		require.Equal(t, "365_DAYS", w.Must(enginetest.Read, "key/rotationSettings", nil)["rotation_interval"])
	})
}

// An emergency is served although the settings, which hold it, are damaged.
func TestAllAreRotatedThoughTheSettingsAreDamaged(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := retained(t, 5)
		defer func() { w.Close() }()
		w.Must(enginetest.Update, "key/rotationSettings", map[string]any{"rotation_interval": "180_DAYS"})
		enginetest.Advance(time.Second) // what the change does in the background
		damageKey(w, "settings")
		w = afresh(w)
		enginetest.Advance(time.Second)
		w.Must(enginetest.Update, "rotations", map[string]any{"all": true})
		w.Rests(2)
		require.Equal(t, []any{"requested", "completed"}, []any{w.Latest()["trigger"], w.Latest()["status"]})
	})
}

// Descriptions that cannot be read keep nothing from being done.
func TestUnreadableHistory(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := retained(t, 5)
		defer func() { w.Close() }()
		for range 3 {
			w.Rotate()
			w.Rests(1)
		}
		history := w.Disk.Keys("history/")
		require.Len(t, history, 2, "the latest is in the record")
		damageKey(w, history[0])
		w = afresh(w)
		require.Len(t, w.Must(enginetest.List, enginetest.TenantPath("/dek/rotations"), nil)["keys"], 2)
		w.Rotate()
		w.Rests(1)
		require.Equal(t, "completed", w.Status(w.Rotations[3])["status"])
		require.Equal(t, "completed", w.Status(w.Rotations[2])["status"], "it was filed")
		resp, err := w.Call(enginetest.Read, enginetest.TenantPath("/dek/rotations/"+w.Rotations[0]), nil)
		require.Equal(t, 500, enginetest.Code(resp, err))
		w.ReadsBack()
	})
}

// A wrapping key that cannot be read keeps no other from being tried, and where the record
// of them cannot be read, rotating begins another one.
func TestWrappingKeysAreRepairedByRotating(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := retained(t, 5)
		defer func() { w.Close() }()
		former := w.PublicKey()
		w.Must(enginetest.Update, "wrapping_key/rotate", nil)
		damageKey(w, enginetest.CurrentWrappingKey(w.Mount))
		w.ImportUnder(former, 1)
		w.Rests(1)
		require.Equal(t, "completed", w.Status(w.Rotations[0])["status"])

		damageKey(w, "import/current")
		w = afresh(w)
		resp, err := w.Call(enginetest.Read, "wrapping_key", nil)
		require.Equal(t, 500, enginetest.Code(resp, err))
		require.ErrorContains(t, err, "import: damaged in storage")
		answer := w.Must(enginetest.Update, "wrapping_key/rotate", nil)
		require.Nil(t, answer["former_until"], "nothing tells until when the keys before were to be taken")
		w.ImportKey(3)
		w.Rests(1)
		require.Equal(t, "completed", w.Status(w.Rotations[1])["status"])
		w.ReadsBack()
	})
}

// Days of use that cannot be read are written anew.
func TestUnreadableUsesAreWrittenAnew(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := retained(t, 5)
		defer w.Close()
		w.Encrypt("before")
		w.Rests(1)
		key := "uses/" + w.Record().Incarnation
		damageKey(w, key)
		enginetest.Advance(enginetest.Day)
		w.Encrypt("a day later")
		w.Rests(1)
		require.Contains(t, string(w.Disk.Value(key)), time.Now().UTC().Format(time.DateOnly))
		require.Zero(t, w.Disk.Damaged())
	})
}

// The log names each damaged entry once, however often it is met.
func TestDamageIsLoggedOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := retained(t, 5)
		diesInASweep(w)
		damageKey(w, recordKeyOf(w))
		var log enginetest.Logged
		m := enginetest.Conditions{Log: log.Logger()}.Open(t, w.Disk, 0, storagetest.None)
		m.Start()
		w = w.On(m)
		defer w.Close()
		w.Rests(30)
		require.Len(t, log.Lines("an entry of storage is damaged"), 1)
		require.LessOrEqual(t, len(log.Lines(enginetest.TenantID)), 3, "%s", strings.Join(log.Lines(enginetest.TenantID), ""))
		require.Empty(t, log.Lines("could not serve every tenant"))
		require.Less(t, m.Storage.Ops(), 30*int(time.Minute/jobs.MaxPause)*20)
	})
}

// What errors say of a damaged entry never quotes it.
func TestDamageIsNamedAndNotQuoted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := retained(t, 5)
		defer func() { w.Close() }()
		w.Disk.Set("config", []byte(`{"org_id":"hidden`))
		w.Disk.Set("settings", []byte(`{"rotation_interval":"hidden`))
		w = afresh(w)
		for _, path := range []string{"config", "key/rotationSettings"} {
			_, err := w.Call(enginetest.Read, path, nil)
			require.ErrorContains(t, err, "malformed")
			require.NotContains(t, err.Error(), "hidden")
		}
		answer, err := json.Marshal(w.Must(enginetest.Read, "status", nil))
		require.NoError(t, err)
		require.NotContains(t, string(answer), "hidden")
	})
}
