// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package schedule_test

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/enginetest"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/storagetest"
)

// While a round waits for places in the budget, with days of work before it,
// somebody asks for other tenants: they come next.
func TestAskedForComesFirst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := enginetest.NewMount(t)
		defer m.Close()
		m.Must(enginetest.Update, "config", map[string]any{"scheduler_jitter": 0, "max_concurrent_rotations": 1})
		const old, asked = 20, 90
		for n := range old {
			m.Must(enginetest.Update, "tenants/"+enginetest.TenantN(n), map[string]any{"rotation_interval": "90_DAYS"})
		}
		enginetest.Advance(89 * enginetest.Day)
		m.Must(enginetest.Update, "tenants/"+enginetest.TenantN(asked), nil)
		enginetest.Advance(4 * enginetest.Day)

		place := m.Engine.Schedule.Budget().Request() // whose rotation takes its time
		<-place
		m.Tick()
		require.Empty(t, m.RotationsOf(enginetest.TenantN(0)))
		m.Must(enginetest.Update, "rotations", map[string]any{"tenants": []any{enginetest.TenantN(asked)}, "reason": "leak"})
		synctest.Wait()
		var order []string
		m.Storage.Fail(func(op, key string) storagetest.Fault {
			if op == "put" && len(key) > len("tenants/00/") && key[:len("tenants/")] == "tenants/" {
				order = append(order, key[len("tenants/00/"):])
			}
			return storagetest.None
		})
		m.Engine.Schedule.Budget().Release()
		enginetest.Advance(time.Minute)
		m.Storage.Fail(nil)
		require.NotEmpty(t, order)
		require.Equal(t, enginetest.TenantN(asked), order[0], "the first to be rotated")
		for n := range old {
			require.Len(t, m.RotationsOf(enginetest.TenantN(n)), 1, "the others are rotated, too")
		}
	})
}

// scheduled counts whom the schedule will rotate, and status how far it is.
func TestScheduledAreThoseThatRotate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := enginetest.NewMount(t)
		m.Must(enginetest.Update, "config", map[string]any{"max_concurrent_rotations": 1})
		const all, paused, deleting = 12, 3, 5
		for n := range all {
			m.Must(enginetest.Update, "tenants/"+enginetest.TenantN(n), nil)
		}
		m.Must(enginetest.Update, "tenants/"+enginetest.TenantN(paused), map[string]any{"rotation_paused": true})
		m.Must(enginetest.Delete, "tenants/"+enginetest.TenantN(deleting), nil)
		enginetest.Advance(time.Hour)
		<-m.Engine.Schedule.Budget().Request()
		require.Equal(t, all-2, m.Must(enginetest.Update, "rotations", map[string]any{"all": true})["scheduled"])
		st := m.Must(enginetest.Read, "status", nil)
		require.Equal(t, all-2, st["overdue"])
		require.Len(t, st["overdue_tenants"], all-2)
		m.Crash()
		m = enginetest.OpenMount(t, m.Disk, 0, storagetest.None)
		defer m.Close()
		synctest.Wait() // the records are read, and the tenants that are due are rotated
		require.Equal(t, 0, m.Must(enginetest.Read, "status", nil)["overdue"])
		for n := range all {
			if n != paused && n != deleting {
				require.Len(t, m.RotationsOf(enginetest.TenantN(n)), 1, "tenant %d", n)
			}
		}
		m.Tick()
		require.Equal(t, 0, m.Must(enginetest.Read, "status", nil)["overdue"])
		rotated := 0
		for n := range all {
			if n != deleting {
				rotated += len(m.RotationsOf(enginetest.TenantN(n)))
			}
		}
		require.Equal(t, all-2, rotated)
		m.Must(enginetest.Update, "tenants/"+enginetest.TenantN(deleting)+"/restore", nil)
		m.Must(enginetest.Update, "tenants/"+enginetest.TenantN(paused), map[string]any{"rotation_paused": false})
		require.Equal(t, all, m.Must(enginetest.Update, "rotations", map[string]any{"all": true})["scheduled"])
	})
}

// The oldest key is known whoever has it: paused, with an interval of its own, or
// in the middle of a rotation.
func TestOldestKeyAge(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := enginetest.NewMount(t)
		defer m.Close()
		age := func() time.Duration {
			return time.Duration(m.Must(enginetest.Read, "status", nil)["oldest_key_age"].(int64)) * time.Second
		}
		require.Zero(t, age())
		m.Must(enginetest.Update, "tenants/"+enginetest.TenantN(1), map[string]any{"rotation_paused": true})
		enginetest.Advance(10 * enginetest.Day)
		m.Must(enginetest.Update, "tenants/"+enginetest.TenantN(2), map[string]any{"rotation_interval": "180_DAYS"})
		enginetest.Advance(10 * enginetest.Day)
		m.Must(enginetest.Update, "tenants/"+enginetest.TenantN(3), nil)
		enginetest.Advance(10 * enginetest.Day)
		require.Equal(t, 30*enginetest.Day, age())
		m.Tick()
		m.Must(enginetest.Update, "tenants/"+enginetest.TenantN(1)+"/dek/rotate", nil)
		enginetest.Advance(time.Second)
		require.Equal(t, 20*enginetest.Day, age().Truncate(time.Hour))
		m.Must(enginetest.Update, "tenants/"+enginetest.TenantN(2)+"/dek/rotate", nil)
		enginetest.Advance(time.Second)
		m.Tick()
		require.Equal(t, 10*enginetest.Day, age().Truncate(time.Hour))
	})
}

// Vault sends a request again, with the same ID, when the plugin crashed: it asks
// for nothing more, whether what it asked for is still to come or done.
func TestRepeatedRequestForRotations(t *testing.T) {
	for name, data := range map[string]map[string]any{
		"everyone": {"all": true},
		"one":      {"tenants": []any{enginetest.TenantID}},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				m := enginetest.NewMount(t)
				m.Must(enginetest.Update, enginetest.TenantPath(""), nil)
				enginetest.Advance(time.Minute)
				ask := func(id string) {
					resp, err := m.CallAs(id, enginetest.Update, "rotations", data)
					require.NoError(t, err)
					require.Equal(t, 1, resp.Data["scheduled"])
					enginetest.Advance(time.Minute)
				}
				ask("one")
				m.Crash()
				m = enginetest.OpenMount(t, m.Disk, 0, storagetest.None)
				defer m.Close()
				ask("one")
				m.Tick()
				require.Len(t, m.RotationsOf(enginetest.TenantID), 1)
				ask("another")
				m.Tick()
				require.Len(t, m.RotationsOf(enginetest.TenantID), 2)
			})
		})
	}
}
