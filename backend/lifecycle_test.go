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

// A rotation that failed, whose old key was then destroyed by force, cannot be
// rolled back when it is retried.
func TestCancelNeedsTheOldKey(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := damagedRotation(t)
		defer w.close()
		w.must(update, destroyPath(1), map[string]any{"force": true})
		id := w.rotations[0]
		<-w.b.Pages.Request()
		w.must(update, action(id, "retry"), nil)
		w.must(update, action(id, "pause"), nil)
		resp, err := w.call(update, action(id, "cancel"), nil)
		require.Equal(t, 409, code(resp, err))
		require.ErrorContains(t, err, "key of version 1 is gone")
		w.b.Pages.Release()
	})
}

// While the schedule waits for a place in its budget, what made a tenant due may
// have passed.
func TestScheduleLooksAgainBeforeItStarts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMount(t)
		defer m.close()
		m.must(update, "config", map[string]any{"scheduler_jitter": 0, "max_concurrent_rotations": 1})
		m.must(update, "tenants/"+tenantN(0), nil)
		m.must(update, "tenants/"+tenantN(1), nil)
		<-m.b.Schedule.Budget().Request()
		advance(366 * day)
		m.tick()
		m.must(update, "tenants/"+tenantN(0)+"/dek/rotate", nil)
		m.must(update, "tenants/"+tenantN(1), map[string]any{"rotation_paused": true})
		advance(time.Hour)
		m.b.Schedule.Budget().Release()
		advance(time.Minute)
		require.Len(t, m.rotationsOf(tenantN(0)), 1, "rotated by hand meanwhile")
		require.Empty(t, m.rotationsOf(tenantN(1)), "paused meanwhile")
	})
}

// However many tenants there are, status counts them all and names the first.
func TestStatusOfManyTenants(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMount(t)
		defer m.close()
		const tenants = 520
		for n := range tenants {
			m.must(update, "tenants/"+tenantN(n), nil)
		}
		require.Equal(t, 0, m.must(read, "status", nil)["due_within_7d"])
		advance(360 * day)
		st := m.must(read, "status", nil)
		require.Equal(t, tenants, st["due_within_7d"])
		require.EqualValues(t, (360 * day).Seconds(), st["oldest_key_age"])
		advance(10 * day)
		st = m.must(read, "status", nil)
		require.Equal(t, tenants, st["overdue"])
		require.Len(t, st["overdue_tenants"], 100)
	})
}

// Progress goes, too, of a rotation whose end was broken off after it was stored.
func TestProgressOfARotationThatHasEndedGoes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := filled(t, 400)
		slowly(w.mount)
		w.storage.Hook(func(string, string) { <-time.After(100 * time.Millisecond) })
		w.storage.Fail(on("delete", "progress/", storagetest.Before))
		w.rotate()
		for w.record().Rotation != nil {
			advance(time.Second)
		}
		w.leavesNoProgress()
	})
}

// Progress that a process which died has noted goes with the rotation.
func TestProgressGoesWithTheRotation(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := filled(t, 400)
		slowly(w.mount)
		w.storage.Hook(func(string, string) { <-time.After(100 * time.Millisecond) })
		w.rotate()
		for range 100 {
			advance(time.Second)
			if len(w.disk.Keys("progress/")) > 0 {
				break
			}
		}
		w.leavesNoProgress()
	})
}

// leavesNoProgress lets the process die that has noted progress, and the next one
// take over.
func (w *witness) leavesNoProgress() {
	w.t.Helper()
	require.NotEmpty(w.t, w.disk.Keys("progress/"))
	w.crash()
	next := w.on(openMount(w.t, w.disk, 0, storagetest.None))
	defer next.close()
	advance(time.Minute)
	require.Equal(w.t, "completed", next.status(w.rotations[0])["status"])
	require.Empty(w.t, next.disk.Keys("progress/"))
}
