// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package backend

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/storagetest"
)

// While a round waits for places in the budget, with days of work before it,
// somebody asks for other tenants: they come next.
func TestAskedForComesFirst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMount(t)
		defer m.close()
		m.must(update, "config", map[string]any{"scheduler_jitter": 0, "max_concurrent_rotations": 1})
		const old, asked = 20, 90
		for n := range old {
			m.must(update, "tenants/"+tenantN(n), map[string]any{"rotation_interval": "90_DAYS"})
		}
		advance(89 * day)
		m.must(update, "tenants/"+tenantN(asked), nil)
		advance(4 * day)

		place := m.b.Schedule.Budget().Request() // whose rotation takes its time
		<-place
		m.tick()
		require.Empty(t, m.rotationsOf(tenantN(0)))
		m.must(update, "rotations", map[string]any{"tenants": []any{tenantN(asked)}, "reason": "leak"})
		synctest.Wait()
		var order []string
		m.storage.Fail(func(op, key string) storagetest.Fault {
			if op == "put" && len(key) > len("tenants/00/") && key[:len("tenants/")] == "tenants/" {
				order = append(order, key[len("tenants/00/"):])
			}
			return storagetest.None
		})
		m.b.Schedule.Budget().Release()
		advance(time.Minute)
		m.storage.Fail(nil)
		require.NotEmpty(t, order)
		require.Equal(t, tenantN(asked), order[0], "the first to be rotated")
		for n := range old {
			require.Len(t, m.rotationsOf(tenantN(n)), 1, "the others are rotated, too")
		}
	})
}

// scheduled counts whom the schedule will rotate, and status how far it is.
func TestScheduledAreThoseThatRotate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMount(t)
		m.must(update, "config", map[string]any{"max_concurrent_rotations": 1})
		const all, paused, deleting = 12, 3, 5
		for n := range all {
			m.must(update, "tenants/"+tenantN(n), nil)
		}
		m.must(update, "tenants/"+tenantN(paused), map[string]any{"rotation_paused": true})
		m.must(del, "tenants/"+tenantN(deleting), nil)
		advance(time.Hour)
		<-m.b.Schedule.Budget().Request()
		require.Equal(t, all-2, m.must(update, "rotations", map[string]any{"all": true})["scheduled"])
		st := m.must(read, "status", nil)
		require.Equal(t, all-2, st["overdue"])
		require.Len(t, st["overdue_tenants"], all-2)
		m.crash()
		m = openMount(t, m.disk, 0, storagetest.None)
		defer m.close()
		synctest.Wait() // the records are read, and the tenants that are due are rotated
		require.Equal(t, 0, m.must(read, "status", nil)["overdue"])
		for n := range all {
			if n != paused && n != deleting {
				require.Len(t, m.rotationsOf(tenantN(n)), 1, "tenant %d", n)
			}
		}
		m.tick()
		require.Equal(t, 0, m.must(read, "status", nil)["overdue"])
		rotated := 0
		for n := range all {
			if n != deleting {
				rotated += len(m.rotationsOf(tenantN(n)))
			}
		}
		require.Equal(t, all-2, rotated)
		m.must(update, "tenants/"+tenantN(deleting)+"/restore", nil)
		m.must(update, "tenants/"+tenantN(paused), map[string]any{"rotation_paused": false})
		require.Equal(t, all, m.must(update, "rotations", map[string]any{"all": true})["scheduled"])
	})
}

// The oldest key is known whoever has it: paused, with an interval of its own, or
// in the middle of a rotation.
func TestOldestKeyAge(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMount(t)
		defer m.close()
		age := func() time.Duration {
			return time.Duration(m.must(read, "status", nil)["oldest_key_age"].(int64)) * time.Second
		}
		require.Zero(t, age())
		m.must(update, "tenants/"+tenantN(1), map[string]any{"rotation_paused": true})
		advance(10 * day)
		m.must(update, "tenants/"+tenantN(2), map[string]any{"rotation_interval": "180_DAYS"})
		advance(10 * day)
		m.must(update, "tenants/"+tenantN(3), nil)
		advance(10 * day)
		require.Equal(t, 30*day, age())
		m.tick()
		m.must(update, "tenants/"+tenantN(1)+"/dek/rotate", nil)
		advance(time.Second)
		require.Equal(t, 20*day, age().Truncate(time.Hour))
		m.must(update, "tenants/"+tenantN(2)+"/dek/rotate", nil)
		advance(time.Second)
		m.tick()
		require.Equal(t, 10*day, age().Truncate(time.Hour))
	})
}

// Vault sends a request again, with the same ID, when the plugin crashed: it asks
// for nothing more, whether what it asked for is still to come or done.
func TestRepeatedRequestForRotations(t *testing.T) {
	for name, data := range map[string]map[string]any{
		"everyone": {"all": true},
		"one":      {"tenants": []any{testTenant}},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				m := newMount(t)
				m.must(update, tenantPath(""), nil)
				advance(time.Minute)
				ask := func(id string) {
					resp, err := m.callAs(id, update, "rotations", data)
					require.NoError(t, err)
					require.Equal(t, 1, resp.Data["scheduled"])
					advance(time.Minute)
				}
				ask("one")
				m.crash()
				m = openMount(t, m.disk, 0, storagetest.None)
				defer m.close()
				ask("one")
				m.tick()
				require.Len(t, m.rotationsOf(testTenant), 1)
				ask("another")
				m.tick()
				require.Len(t, m.rotationsOf(testTenant), 2)
			})
		})
	}
}
