// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package schedule_test

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/enginetest"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/storagetest"
)

func TestScheduleRotatesWhatIsDue(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := enginetest.NewMount(t)
		defer m.Close()
		m.Must(enginetest.Update, "config", map[string]any{"scheduler_jitter": 0})
		const org, own, paused = 0, 1, 2
		m.Must(enginetest.Update, "tenants/"+enginetest.TenantN(org), nil)
		m.Must(enginetest.Update, "tenants/"+enginetest.TenantN(own), map[string]any{"rotation_interval": "90_DAYS"})
		m.Must(enginetest.Update, "tenants/"+enginetest.TenantN(paused), map[string]any{"rotation_paused": true})
		require.Nil(t, m.Must(enginetest.Read, "tenants/"+enginetest.TenantN(paused), nil)["next_rotation_at"])

		m.Hourly(90*enginetest.Day - 2*time.Hour)
		require.Empty(t, m.RotationsOf(enginetest.TenantN(own)), "not before its time")
		m.Hourly(4 * time.Hour)
		got := m.RotationsOf(enginetest.TenantN(own))
		require.Len(t, got, 1)
		require.Equal(t, "scheduled", got[0]["trigger"])
		require.Equal(t, "system", got[0]["initiated_by"].(map[string]any)["id"])
		require.Empty(t, m.RotationsOf(enginetest.TenantN(org)))

		// Shortening the organization's interval takes effect at the next tick,
		// and rewrites nothing: only the settings are written, and the evidence log.
		m.Hourly(enginetest.Day)
		before := m.Disk.Clone()
		m.Must(enginetest.Update, "key/rotationSettings", map[string]any{"rotation_interval": "90_DAYS"})
		changed := 0
		for _, key := range m.Disk.Keys("") {
			if !strings.HasPrefix(key, "evidence/") && string(before.Value(key)) != string(m.Disk.Value(key)) {
				changed++
			}
		}
		require.Equal(t, 1, changed, "entries written")
		m.Tick()
		require.Len(t, m.RotationsOf(enginetest.TenantN(org)), 1)
		require.Empty(t, m.RotationsOf(enginetest.TenantN(paused)))

		m.Must(enginetest.Update, "tenants/"+enginetest.TenantN(paused), map[string]any{"rotation_paused": false})
		m.Tick()
		require.Len(t, m.RotationsOf(enginetest.TenantN(paused)), 1, "no longer paused, and overdue")
	})
}

func TestRetiredKeyIsKeptForAWhile(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := enginetest.NewMount(t)
		w := enginetest.NewOracle(m)
		w.Create()
		w.Bulk(20, 3000)
		w.Rotate()
		enginetest.Advance(time.Second)
		versions := m.Must(enginetest.Read, enginetest.TenantPath("/dek"), nil)["versions"].([]map[string]any)
		require.Equal(t, "deactivated", versions[0]["state"])
		require.Zero(t, versions[0]["pages"])
		m.Close()
		m = enginetest.OpenMount(t, m.Disk, 0, storagetest.None)
		defer m.Close()
		m.Hourly(7*enginetest.Day - 2*time.Hour)
		versions = m.Must(enginetest.Read, enginetest.TenantPath("/dek"), nil)["versions"].([]map[string]any)
		require.Equal(t, "deactivated", versions[0]["state"], "not before its time")
		m.Hourly(3 * time.Hour)
		versions = m.Must(enginetest.Read, enginetest.TenantPath("/dek"), nil)["versions"].([]map[string]any)
		require.Equal(t, "destroyed", versions[0]["state"])
		w = w.On(m)
		w.ReadsBack()
		w.AtRest()
		require.Empty(t, m.Disk.Keys("schedule/upkeep/"))
	})
}

// A cancelled rotation is not started again at once, nor never.
func TestScheduleBacksOffAfterACancel(t *testing.T) {
	enginetest.InRotation(t, func(w *enginetest.Oracle, id string) {
		w.Must(enginetest.Update, "config", map[string]any{"scheduler_jitter": 0})
		w.Must(enginetest.Update, enginetest.Action(id, "cancel"), nil)
		w.Engine.Pages.Release()
		enginetest.Advance(time.Second)
		require.Equal(t, "rolled_back", w.Status(id)["status"])
		w.Hourly(364 * enginetest.Day)
		require.Len(t, w.RotationsOf(enginetest.TenantID), 1, "it was not due")
		w.Hourly(2 * enginetest.Day)
		require.Len(t, w.RotationsOf(enginetest.TenantID), 2)
		w.Engine.Pages.Request()
	})
}

func TestStatus(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := enginetest.NewMount(t)
		defer m.Close()
		m.Must(enginetest.Update, "config", map[string]any{"scheduler_jitter": 0})
		empty := m.Must(enginetest.Read, "status", nil)
		require.Equal(t, 0, empty["tenants"])
		for n := range 5 {
			m.Must(enginetest.Update, "tenants/"+enginetest.TenantN(n), nil)
			enginetest.Advance(enginetest.Day)
		}
		enginetest.Advance(356 * enginetest.Day) // the first is 361 days old
		st := m.Must(enginetest.Read, "status", nil)
		require.Equal(t, 5, st["tenants"])
		require.Equal(t, 0, st["overdue"])
		require.Equal(t, 3, st["due_within_7d"])
		require.EqualValues(t, (361 * enginetest.Day).Seconds(), st["oldest_key_age"])

		enginetest.Advance(5*enginetest.Day + time.Hour) // two are due, and the schedule has not looked
		st = m.Must(enginetest.Read, "status", nil)
		require.Equal(t, 2, st["overdue"])
		require.Equal(t, []string{enginetest.TenantN(0), enginetest.TenantN(1)}, st["overdue_tenants"])
		m.Tick()
		st = m.Must(enginetest.Read, "status", nil)
		require.Equal(t, 0, st["overdue"])
		require.Equal(t, 3, st["due_within_7d"])
		require.NotNil(t, st["scheduler_last_run"])
		m.Must(enginetest.Delete, "tenants/"+enginetest.TenantN(4), map[string]any{"deletion_window": 0})
		require.Equal(t, 4, m.Must(enginetest.Read, "status", nil)["tenants"])
	})
}

// While the schedule waits for a place in its budget, what made a tenant due may
// have passed.
func TestScheduleLooksAgainBeforeItStarts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := enginetest.NewMount(t)
		defer m.Close()
		m.Must(enginetest.Update, "config", map[string]any{"scheduler_jitter": 0, "max_concurrent_rotations": 1})
		m.Must(enginetest.Update, "tenants/"+enginetest.TenantN(0), nil)
		m.Must(enginetest.Update, "tenants/"+enginetest.TenantN(1), nil)
		<-m.Engine.Schedule.Budget().Request()
		enginetest.Advance(366 * enginetest.Day)
		m.Tick()
		m.Must(enginetest.Update, "tenants/"+enginetest.TenantN(0)+"/dek/rotate", nil)
		m.Must(enginetest.Update, "tenants/"+enginetest.TenantN(1), map[string]any{"rotation_paused": true})
		enginetest.Advance(time.Hour)
		m.Engine.Schedule.Budget().Release()
		enginetest.Advance(time.Minute)
		require.Len(t, m.RotationsOf(enginetest.TenantN(0)), 1, "rotated by hand meanwhile")
		require.Empty(t, m.RotationsOf(enginetest.TenantN(1)), "paused meanwhile")
	})
}

// A round that waits for a place in the budget uses a larger one at once, although no
// rotation ends.
func TestLargerBudgetIsUsedAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := enginetest.NewMount(t)
		defer m.Close()
		m.Must(enginetest.Update, "config", map[string]any{"scheduler_jitter": 0, "max_concurrent_rotations": 1})
		m.Must(enginetest.Update, "tenants/"+enginetest.TenantN(0), nil)
		<-m.Engine.Schedule.Budget().Request() // whose rotation takes its time
		enginetest.Advance(366 * enginetest.Day)
		m.Tick()
		require.Empty(t, m.RotationsOf(enginetest.TenantN(0)))
		m.Must(enginetest.Update, "config", map[string]any{"max_concurrent_rotations": 2})
		enginetest.Advance(time.Second)
		require.Len(t, m.RotationsOf(enginetest.TenantN(0)), 1)
	})
}

// A rotation that has ended, and waits only until the evidence log has that, takes no place
// in the budget: while the log cannot be written, others are rotated, but not without bound.
func TestEndedRotationsTakeNoPlace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const waiting = 256 // and one more has the only place
		m := enginetest.NewMount(t)
		defer m.Close()
		m.Must(enginetest.Update, "config", map[string]any{"scheduler_jitter": 0, "max_concurrent_rotations": 1})
		for n := range waiting + 10 {
			m.Must(enginetest.Update, "tenants/"+enginetest.TenantN(n), nil)
		}
		enginetest.Advance(time.Minute)
		ended := func() (n int) {
			for _, key := range m.Disk.Keys("tenants/") {
				if strings.Contains(string(m.Disk.Value(key)), `"phase":"completed"`) {
					n++
				}
			}
			return n
		}
		m.Storage.Fail(enginetest.FailOn("put", "evidence/", storagetest.Before))
		m.Must(enginetest.Update, "rotations", map[string]any{"all": true})
		enginetest.Advance(time.Minute)
		require.Equal(t, waiting+1, ended())
		require.Len(t, m.Disk.Keys("wal/"), waiting+1, "no intent goes before the log has the end")

		m.Storage.Fail(nil)
		enginetest.Advance(time.Minute)
		require.Equal(t, waiting+10, ended())
		require.Empty(t, m.Disk.Keys("wal/"))
		m.Verified()
	})
}

// A rotation that has failed keeps its place until the evidence log has that: its retry is the
// same job, which would then run without one.
func TestFailedRotationKeepsItsPlace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := enginetest.NewMount(t)
		defer m.Close()
		m.Must(enginetest.Update, "config", map[string]any{"scheduler_jitter": 0, "max_concurrent_rotations": 1})
		for n := range 3 {
			m.Must(enginetest.Update, "tenants/"+enginetest.TenantN(n), nil)
			m.Must(enginetest.Update, "tenants/"+enginetest.TenantN(n)+"/secrets/a", enginetest.Secret("v"))
		}
		enginetest.Advance(time.Minute)
		m.Disk.Damage(storagetest.ErrAltered, storagetest.Below("pages/"))
		m.Storage.Fail(enginetest.FailOn("put", "evidence/", storagetest.Before))
		m.Must(enginetest.Update, "rotations", map[string]any{"all": true})
		enginetest.Advance(time.Minute)
		require.Len(t, m.Disk.Keys("wal/"), 1, "the others wait for the place")

		m.Storage.Fail(nil)
		enginetest.Advance(time.Minute)
		for n := range 3 {
			require.Equal(t, "failed", m.RotationsOf(enginetest.TenantN(n))[0]["status"])
		}
	})
}
