// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package kekrotation_test

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/enginetest"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/kekrotation"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/storagetest"
)

// kekAge returns how old the engine says that its KEK is.
func kekAge(m *enginetest.Mount) kekrotation.Age {
	m.T.Helper()
	age, err := m.Engine.KEK.Age(m.T.Context())
	require.NoError(m.T, err)
	return age
}

func TestKEKIsRotatedByItself(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := enginetest.NewMount(t)
		defer m.Close()
		require.EqualValues(t, 365*86400, m.Must(enginetest.Read, "config", nil)["kek_rotation_interval"])
		m.Tick()
		require.Zero(t, kekAge(m), "there is none yet")
		m.Must(enginetest.Update, enginetest.TenantPath(""), map[string]any{"rotation_paused": true})
		made := time.Now()
		first := m.Must(enginetest.Read, "kek", nil)
		require.True(t, made.Add(365*enginetest.Day).Equal(kekAge(m).DueAt))

		enginetest.Advance(365*enginetest.Day - 2*time.Minute)
		m.Tick()
		require.Equal(t, first["kek_id"], m.Must(enginetest.Read, "kek", nil)["kek_id"])
		require.False(t, kekAge(m).Overdue)
		require.Equal(t, 365*enginetest.Day-time.Minute, kekAge(m).Age)
		enginetest.Advance(time.Minute)
		require.True(t, kekAge(m).Overdue, "until it is looked at")
		m.Tick()
		second := m.Must(enginetest.Read, "kek", nil)
		require.NotEqual(t, first["kek_id"], second["kek_id"])
		require.Equal(t, "completed", second["status"])
		require.Equal(t, "system", second["initiated_by"].(map[string]any)["id"])
		require.Contains(t, second["reason"], "kek_rotation_interval")
		require.False(t, kekAge(m).Overdue)
		require.Equal(t, time.Minute, kekAge(m).Age)

		// By hand alone.
		m.Must(enginetest.Update, "config", map[string]any{"kek_rotation_interval": 0})
		require.Zero(t, kekAge(m).DueAt)
		enginetest.Advance(3 * 365 * enginetest.Day)
		m.Tick()
		require.Equal(t, second["kek_id"], m.Must(enginetest.Read, "kek", nil)["kek_id"])
		require.False(t, kekAge(m).Overdue)

		// A shorter one holds at once.
		m.Must(enginetest.Update, "config", map[string]any{"kek_rotation_interval": "365d"})
		enginetest.Advance(time.Second)
		require.NotEqual(t, second["kek_id"], m.Must(enginetest.Read, "kek", nil)["kek_id"])
		for _, bad := range []any{"-1s", "3651d", "soon", "", 0.5, "1.5s"} {
			m.Refused(400, "kek_rotation_interval", enginetest.Update, "config", map[string]any{"kek_rotation_interval": bad})
		}
	})
}

// A rotation by hand puts the next one off.
func TestKEKIntervalCountsFromTheLatestRotation(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := enginetest.NewMount(t)
		defer m.Close()
		m.Must(enginetest.Update, enginetest.TenantPath(""), map[string]any{"rotation_paused": true})
		m.Must(enginetest.Update, "config", map[string]any{"kek_rotation_interval": "100d"})
		enginetest.Advance(99 * enginetest.Day)
		byHand := m.Must(enginetest.Update, "kek/rotate", nil)["kek_id"]
		enginetest.Advance(99 * enginetest.Day)
		m.Tick()
		require.Equal(t, byHand, m.Must(enginetest.Read, "kek", nil)["kek_id"])
		enginetest.Advance(enginetest.Day)
		m.Tick()
		require.NotEqual(t, byHand, m.Must(enginetest.Read, "kek", nil)["kek_id"])
	})
}

// The age of a KEK without a date is counted from the first start, and not again from
// later ones.
func TestKEKWithoutADate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := enginetest.NewMount(t)
		m.Must(enginetest.Update, enginetest.TenantPath(""), map[string]any{"rotation_paused": true})
		m.Close()
		enginetest.WithoutDate(t, m.Disk)
		enginetest.Advance(400 * enginetest.Day)

		m = enginetest.OpenMount(t, m.Disk, 0, storagetest.None)
		enginetest.Advance(time.Second)
		before := m.Must(enginetest.Read, "kek", nil)
		require.Nil(t, before["created_at"])
		require.Nil(t, before["age"])
		require.Equal(t, time.Second, kekAge(m).Age)
		enginetest.Advance(200 * enginetest.Day)
		m.Close()

		m = enginetest.OpenMount(t, m.Disk, 0, storagetest.None)
		defer m.Close()
		enginetest.Advance(164 * enginetest.Day)
		m.Tick()
		require.Equal(t, before["kek_id"], m.Must(enginetest.Read, "kek", nil)["kek_id"])
		require.Equal(t, 364*enginetest.Day, kekAge(m).Age.Truncate(enginetest.Day))
		enginetest.Advance(enginetest.Day)
		m.Tick()
		after := m.Must(enginetest.Read, "kek", nil)
		require.NotEqual(t, before["kek_id"], after["kek_id"])
		require.NotNil(t, after["created_at"])
	})
}
