// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package backend

import (
	"encoding/json"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/kekrotation"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/storagetest"
)

// kekAge returns how old the engine says that its KEK is.
func (m *mount) kekAge() kekrotation.Age {
	m.t.Helper()
	age, err := m.b.KEK.Age(m.t.Context())
	require.NoError(m.t, err)
	return age
}

func TestKEKIsRotatedByItself(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMount(t)
		defer m.close()
		require.EqualValues(t, 365*86400, m.must(read, "config", nil)["kek_rotation_interval"])
		m.tick()
		require.Zero(t, m.kekAge(), "there is none yet")
		m.must(update, tenantPath(""), map[string]any{"rotation_paused": true})
		made := time.Now()
		first := m.must(read, "kek", nil)
		require.Equal(t, made.Add(365*day).UTC().Format(time.RFC3339Nano), first["next_rotation_at"])

		advance(365*day - 2*time.Minute)
		m.tick()
		require.Equal(t, first["kek_id"], m.must(read, "kek", nil)["kek_id"])
		require.False(t, m.kekAge().Overdue)
		require.Equal(t, 365*day-time.Minute, m.kekAge().Age)
		advance(time.Minute)
		require.True(t, m.kekAge().Overdue, "until it is looked at")
		m.tick()
		second := m.must(read, "kek", nil)
		require.NotEqual(t, first["kek_id"], second["kek_id"])
		require.Equal(t, "completed", second["status"])
		require.Equal(t, "system", second["initiated_by"].(map[string]any)["id"])
		require.Contains(t, second["reason"], "kek_rotation_interval")
		require.False(t, m.kekAge().Overdue)
		require.Equal(t, time.Minute, m.kekAge().Age)

		// By hand alone.
		m.must(update, "config", map[string]any{"kek_rotation_interval": 0})
		require.Nil(t, m.must(read, "kek", nil)["next_rotation_at"])
		advance(3 * 365 * day)
		m.tick()
		require.Equal(t, second["kek_id"], m.must(read, "kek", nil)["kek_id"])
		require.False(t, m.kekAge().Overdue)

		// A shorter one holds at once.
		m.must(update, "config", map[string]any{"kek_rotation_interval": "365d"})
		advance(time.Second)
		require.NotEqual(t, second["kek_id"], m.must(read, "kek", nil)["kek_id"])
		for _, bad := range []any{"-1s", "3651d", "soon", "", 0.5, "1.5s"} {
			m.refused(400, "kek_rotation_interval", update, "config", map[string]any{"kek_rotation_interval": bad})
		}
	})
}

// A rotation by hand puts the next one off.
func TestKEKIntervalCountsFromTheLatestRotation(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMount(t)
		defer m.close()
		m.must(update, tenantPath(""), map[string]any{"rotation_paused": true})
		m.must(update, "config", map[string]any{"kek_rotation_interval": "100d"})
		advance(99 * day)
		byHand := m.must(update, "kek/rotate", nil)["kek_id"]
		advance(99 * day)
		m.tick()
		require.Equal(t, byHand, m.must(read, "kek", nil)["kek_id"])
		advance(day)
		m.tick()
		require.NotEqual(t, byHand, m.must(read, "kek", nil)["kek_id"])
	})
}

// withoutDate takes the date from the record of the KEK, as early versions wrote it.
func withoutDate(t *testing.T, disk *storagetest.Disk) {
	t.Helper()
	var rec map[string]any
	require.NoError(t, json.Unmarshal(disk.Value("kek/current"), &rec))
	delete(rec, "created_at")
	value, err := json.Marshal(rec)
	require.NoError(t, err)
	disk.Set("kek/current", value)
}

// The age of a KEK without a date is counted from the first start, and not again from
// later ones.
func TestKEKWithoutADate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMount(t)
		m.must(update, tenantPath(""), map[string]any{"rotation_paused": true})
		m.close()
		withoutDate(t, m.disk)
		advance(400 * day)

		m = openMount(t, m.disk, 0, storagetest.None)
		advance(time.Second)
		before := m.must(read, "kek", nil)
		require.Nil(t, before["created_at"])
		require.Nil(t, before["age"])
		require.Equal(t, time.Second, m.kekAge().Age)
		advance(200 * day)
		m.close()

		m = openMount(t, m.disk, 0, storagetest.None)
		defer m.close()
		advance(164 * day)
		m.tick()
		require.Equal(t, before["kek_id"], m.must(read, "kek", nil)["kek_id"])
		require.Equal(t, 364*day, m.kekAge().Age.Truncate(day))
		advance(day)
		m.tick()
		after := m.must(read, "kek", nil)
		require.NotEqual(t, before["kek_id"], after["kek_id"])
		require.NotNil(t, after["created_at"])
	})
}

// kekIntervalScenarios are those of a KEK that becomes due.
var kekIntervalScenarios = []scenario{
	{
		name: "the KEK becomes due",
		before: func(w *witness) {
			w.create()
			beside(w)
			w.must(update, "config", map[string]any{"kek_rotation_interval": "1h"})
		},
		act: func(w *witness) {
			advance(2 * time.Hour)
			w.tick()
			w.put("a", "1")
		},
	},
	{
		name: "the KEK has no date",
		before: func(w *witness) {
			w.create()
			withoutDate(w.t, w.disk)
		},
		act: func(w *witness) {
			w.tick()
			w.rotateKEK()
			advance(time.Second)
			w.put("a", "1")
		},
	},
}

func TestEveryCrashPointOfTheKEKInterval(t *testing.T) { atEveryPoint(t, kekIntervalScenarios) }
