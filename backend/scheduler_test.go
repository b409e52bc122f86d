// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package backend

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/storagetest"
)

const day = 24 * time.Hour

func tenantN(n int) string { return fmt.Sprintf("%08x-0000-4000-8000-000000000000", n) }

// rotationsOf returns a tenant's rotations, newest first.
func (m *mount) rotationsOf(id string) []map[string]any {
	m.t.Helper()
	keys, _ := m.must(list, "tenants/"+id+"/dek/rotations", nil)["keys"].([]string)
	var all []map[string]any
	for _, k := range keys {
		all = append(all, m.must(read, "tenants/"+id+"/dek/rotations/"+k, nil))
	}
	return all
}

// hourly lets time pass with a tick an hour.
func (m *mount) hourly(d time.Duration) {
	for end := time.Now().Add(d); time.Now().Before(end); {
		advance(time.Hour - time.Minute)
		m.tick()
	}
}

func TestScheduleRotatesWhatIsDue(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMount(t)
		defer m.close()
		m.must(update, "config", map[string]any{"scheduler_jitter": 0})
		const org, own, paused = 0, 1, 2
		m.must(update, "tenants/"+tenantN(org), nil)
		m.must(update, "tenants/"+tenantN(own), map[string]any{"rotation_interval": "90_DAYS"})
		m.must(update, "tenants/"+tenantN(paused), map[string]any{"rotation_paused": true})
		require.Nil(t, m.must(read, "tenants/"+tenantN(paused), nil)["next_rotation_at"])

		m.hourly(90*day - 2*time.Hour)
		require.Empty(t, m.rotationsOf(tenantN(own)), "not before its time")
		m.hourly(4 * time.Hour)
		got := m.rotationsOf(tenantN(own))
		require.Len(t, got, 1)
		require.Equal(t, "scheduled", got[0]["trigger"])
		require.Equal(t, "system", got[0]["initiated_by"].(map[string]any)["id"])
		require.Empty(t, m.rotationsOf(tenantN(org)))

		// Shortening the organization's interval takes effect at the next tick,
		// and rewrites nothing.
		m.hourly(day)
		before := m.disk.Clone()
		m.must(update, "key/rotationSettings", map[string]any{"rotation_interval": "90_DAYS"})
		changed := 0
		for _, key := range m.disk.Keys("") {
			if string(before.Value(key)) != string(m.disk.Value(key)) {
				changed++
			}
		}
		require.Equal(t, 1, changed, "entries written")
		m.tick()
		require.Len(t, m.rotationsOf(tenantN(org)), 1)
		require.Empty(t, m.rotationsOf(tenantN(paused)))

		m.must(update, "tenants/"+tenantN(paused), map[string]any{"rotation_paused": false})
		m.tick()
		require.Len(t, m.rotationsOf(tenantN(paused)), 1, "no longer paused, and overdue")
	})
}

func TestJitterSpreadsRotations(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMount(t)
		defer m.close()
		m.must(update, "key/rotationSettings", map[string]any{"rotation_interval": "90_DAYS"})
		for n := range 40 {
			m.must(update, "tenants/"+tenantN(n), nil)
		}
		advance(90 * day)
		hours := map[int]int{}
		rotated := 0
		for hour := range 25 {
			m.tick()
			now := 0
			for n := range 40 {
				now += len(m.rotationsOf(tenantN(n)))
			}
			hours[hour] = now - rotated
			rotated = now
			advance(time.Hour - time.Minute)
		}
		require.Equal(t, 40, rotated, "all within the jitter")
		for hour, n := range hours {
			require.Less(t, n, 12, "in hour %d", hour)
		}
	})
}

func TestRetiredKeyIsKeptForAWhile(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMount(t)
		w := newWitness(m)
		w.create()
		w.bulk(20, 3000)
		w.rotate()
		advance(time.Second)
		versions := m.must(read, tenantPath("/dek"), nil)["versions"].([]map[string]any)
		require.Equal(t, "deactivated", versions[0]["state"])
		require.Zero(t, versions[0]["pages"])
		m.close()
		m = openMount(t, m.disk, 0, storagetest.None)
		defer m.close()
		m.hourly(7*day - 2*time.Hour)
		versions = m.must(read, tenantPath("/dek"), nil)["versions"].([]map[string]any)
		require.Equal(t, "deactivated", versions[0]["state"], "not before its time")
		m.hourly(3 * time.Hour)
		versions = m.must(read, tenantPath("/dek"), nil)["versions"].([]map[string]any)
		require.Equal(t, "destroyed", versions[0]["state"])
		w = w.on(m)
		w.readsBack()
		w.atRest()
		require.Empty(t, m.disk.Keys("schedule/upkeep/"))
	})
}

// A cancelled rotation is not started again at once, nor never.
func TestScheduleBacksOffAfterACancel(t *testing.T) {
	inRotation(t, func(w *witness, id string) {
		w.must(update, "config", map[string]any{"scheduler_jitter": 0})
		w.must(update, action(id, "cancel"), nil)
		w.b.Pages.Release()
		advance(time.Second)
		require.Equal(t, "rolled_back", w.status(id)["status"])
		w.hourly(364 * day)
		require.Len(t, w.rotationsOf(testTenant), 1, "it was not due")
		w.hourly(2 * day)
		require.Len(t, w.rotationsOf(testTenant), 2)
		w.b.Pages.Request()
	})
}

func TestRotateEveryoneNow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMount(t)
		m.must(update, "config", map[string]any{"max_concurrent_rotations": 3})
		for n := range 30 {
			data := map[string]any{}
			if n%3 == 0 {
				data["rotation_interval"] = "180_DAYS"
			}
			m.must(update, "tenants/"+tenantN(n), data)
		}
		advance(time.Hour)
		m.refused(400, "one of all=true and tenants", update, "rotations", nil)
		m.refused(400, "one of all=true and tenants", update, "rotations", map[string]any{"all": true, "tenants": []any{tenantN(1)}})
		m.refused(400, "tenants must be a list of UUIDs in lower case: element 1", update, "rotations", map[string]any{"tenants": []any{tenantN(1), "x"}})
		m.refused(400, "all must be true or false", update, "rotations", map[string]any{"all": 2})
		m.refused(400, "tenants must be a list", update, "rotations", map[string]any{"tenants": []any{}})
		m.refused(400, "lower case", update, "rotations", map[string]any{"tenants": []any{"x"}})
		m.refused(404, "tenants has "+testTenant+": tenant not found", update, "rotations", map[string]any{"tenants": []any{tenantN(1), testTenant}})

		require.Equal(t, 2, m.must(update, "rotations", map[string]any{
			"tenants": []any{tenantN(1), tenantN(2), tenantN(1)}, "reason": "suspicion",
		})["scheduled"])
		advance(time.Second)
		for n := range 4 {
			require.Len(t, m.rotationsOf(tenantN(n)), map[bool]int{true: 1}[n == 1 || n == 2], "tenant %d", n)
		}
		require.Equal(t, "suspicion", m.rotationsOf(tenantN(1))[0]["reason"])

		require.Equal(t, 30, m.must(update, "rotations", map[string]any{"all": true, "reason": "leak"})["scheduled"])
		m.crash() // the request was acknowledged: it is served all the same
		m = openMount(t, m.disk, 0, storagetest.None)
		defer m.close()
		m.tick()
		m.tick()
		for n := range 30 {
			got := m.rotationsOf(tenantN(n))
			require.Equal(t, "leak", got[0]["reason"], "tenant %d", n)
			require.Equal(t, "completed", got[0]["status"])
		}
		m.hourly(2 * day)
		for n := range 30 {
			require.LessOrEqual(t, len(m.rotationsOf(tenantN(n))), 2, "once is enough")
		}
	})
}

func TestStatus(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMount(t)
		defer m.close()
		m.must(update, "config", map[string]any{"scheduler_jitter": 0})
		empty := m.must(read, "status", nil)
		require.Equal(t, 0, empty["tenants"])
		for n := range 5 {
			m.must(update, "tenants/"+tenantN(n), nil)
			advance(day)
		}
		advance(356 * day) // the first is 361 days old
		st := m.must(read, "status", nil)
		require.Equal(t, 5, st["tenants"])
		require.Equal(t, 0, st["overdue"])
		require.Equal(t, 3, st["due_within_7d"])
		require.EqualValues(t, (361 * day).Seconds(), st["oldest_key_age"])

		advance(5*day + time.Hour) // two are due, and the schedule has not looked
		st = m.must(read, "status", nil)
		require.Equal(t, 2, st["overdue"])
		require.Equal(t, []string{tenantN(0), tenantN(1)}, st["overdue_tenants"])
		m.tick()
		st = m.must(read, "status", nil)
		require.Equal(t, 0, st["overdue"])
		require.Equal(t, 3, st["due_within_7d"])
		require.NotNil(t, st["scheduler_last_run"])
		m.must(del, "tenants/"+tenantN(4), map[string]any{"deletion_window": 0})
		require.Equal(t, 4, m.must(read, "status", nil)["tenants"])
	})
}

// A year with restarts and crashes at random: every due date is served once.
func TestEveryDueDateIsServedOnce(t *testing.T) {
	const tenants, seed = 25, 1
	synctest.Test(t, func(t *testing.T) {
		random := rand.New(rand.NewPCG(seed, seed))
		m := newMount(t)
		m.must(update, "key/rotationSettings", map[string]any{"rotation_interval": "90_DAYS"})
		for n := range tenants {
			m.must(update, "tenants/"+tenantN(n), nil)
			advance(time.Duration(random.IntN(20)) * time.Hour)
		}
		for range 365 * 2 {
			advance(12*time.Hour - time.Minute)
			m.tick()
			switch random.IntN(20) {
			case 0:
				m.close()
				m = openMount(t, m.disk, 0, storagetest.None)
			case 1: // in the middle of something
				m.storage.FailNext(1+random.IntN(20), storagetest.Gone)
				m.tick()
				m.crash()
				m = openMount(t, m.disk, 0, storagetest.None)
			}
		}
		advance(time.Minute)
		for n := range tenants {
			got := m.rotationsOf(tenantN(n))
			// In 365 days, with up to a day of jitter each time, 90 days pass four
			// times; for those created late, perhaps only three.
			require.GreaterOrEqual(t, len(got), 3, "tenant %d", n)
			require.LessOrEqual(t, len(got), 4, "tenant %d", n)
			for i := range got[1:] {
				later, err := time.Parse(time.RFC3339, got[i]["started_at"].(string))
				require.NoError(t, err)
				earlier, err := time.Parse(time.RFC3339, got[i+1]["started_at"].(string))
				require.NoError(t, err)
				require.GreaterOrEqual(t, later.Sub(earlier), 90*day)
				require.Less(t, later.Sub(earlier), 93*day)
			}
		}
		m.close()
	})
}
