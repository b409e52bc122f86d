// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package fleet

import (
	"math/rand/v2"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/enginetest"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/storagetest"
)

func TestJitterSpreadsRotations(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := enginetest.NewMount(t)
		defer m.Close()
		m.Must(enginetest.Update, "key/rotationSettings", map[string]any{"rotation_interval": "90_DAYS"})
		for n := range 40 {
			m.Must(enginetest.Update, "tenants/"+enginetest.TenantN(n), nil)
		}
		enginetest.Advance(90 * enginetest.Day)
		hours := map[int]int{}
		rotated := 0
		for hour := range 25 {
			m.Tick()
			now := 0
			for n := range 40 {
				now += len(m.RotationsOf(enginetest.TenantN(n)))
			}
			hours[hour] = now - rotated
			rotated = now
			enginetest.Advance(time.Hour - time.Minute)
		}
		require.Equal(t, 40, rotated, "all within the jitter")
		for hour, n := range hours {
			require.Less(t, n, 12, "in hour %d", hour)
		}
	})
}

func TestRotateEveryoneNow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := enginetest.NewMount(t)
		m.Must(enginetest.Update, "config", map[string]any{"max_concurrent_rotations": 3})
		for n := range 30 {
			data := map[string]any{}
			if n%3 == 0 {
				data["rotation_interval"] = "180_DAYS"
			}
			m.Must(enginetest.Update, "tenants/"+enginetest.TenantN(n), data)
		}
		enginetest.Advance(time.Hour)
		m.Refused(400, "one of all=true and tenants", enginetest.Update, "rotations", nil)
		m.Refused(400, "one of all=true and tenants", enginetest.Update, "rotations", map[string]any{"all": true, "tenants": []any{enginetest.TenantN(1)}})
		m.Refused(400, "tenants must be a list of UUIDs in lower case: element 1", enginetest.Update, "rotations", map[string]any{"tenants": []any{enginetest.TenantN(1), "x"}})
		m.Refused(400, "all must be true or false", enginetest.Update, "rotations", map[string]any{"all": 2})
		m.Refused(400, "tenants must be a list", enginetest.Update, "rotations", map[string]any{"tenants": []any{}})
		m.Refused(400, "lower case", enginetest.Update, "rotations", map[string]any{"tenants": []any{"x"}})
		m.Refused(404, "tenants has "+enginetest.TenantID+": tenant not found", enginetest.Update, "rotations", map[string]any{"tenants": []any{enginetest.TenantN(1), enginetest.TenantID}})

		require.Equal(t, 2, m.Must(enginetest.Update, "rotations", map[string]any{
			"tenants": []any{enginetest.TenantN(1), enginetest.TenantN(2), enginetest.TenantN(1)}, "reason": "suspicion",
		})["scheduled"])
		enginetest.Advance(time.Second)
		for n := range 4 {
			require.Len(t, m.RotationsOf(enginetest.TenantN(n)), map[bool]int{true: 1}[n == 1 || n == 2], "tenant %d", n)
		}
		require.Equal(t, "suspicion", m.RotationsOf(enginetest.TenantN(1))[0]["reason"])

		require.Equal(t, 30, m.Must(enginetest.Update, "rotations", map[string]any{"all": true, "reason": "leak"})["scheduled"])
		m.Crash() // the request was acknowledged: it is served all the same
		m = enginetest.OpenMount(t, m.Disk, 0, storagetest.None)
		defer m.Close()
		m.Tick()
		m.Tick()
		for n := range 30 {
			got := m.RotationsOf(enginetest.TenantN(n))
			require.Equal(t, "leak", got[0]["reason"], "tenant %d", n)
			require.Equal(t, "completed", got[0]["status"])
		}
		m.Hourly(2 * enginetest.Day)
		for n := range 30 {
			require.LessOrEqual(t, len(m.RotationsOf(enginetest.TenantN(n))), 2, "once is enough")
		}
	})
}

// A year with restarts and crashes at random: every due date is served once.
func TestEveryDueDateIsServedOnce(t *testing.T) {
	const seed = 1
	tenants := 25
	if enginetest.UnderRace {
		tenants = 8
	}
	synctest.Test(t, func(t *testing.T) {
		random := rand.New(rand.NewPCG(seed, seed))
		m := enginetest.NewMount(t)
		m.Must(enginetest.Update, "key/rotationSettings", map[string]any{"rotation_interval": "90_DAYS"})
		for n := range tenants {
			m.Must(enginetest.Update, "tenants/"+enginetest.TenantN(n), nil)
			enginetest.Advance(time.Duration(random.IntN(20)) * time.Hour)
		}
		for range 365 * 2 {
			enginetest.Advance(12*time.Hour - time.Minute)
			m.Tick()
			switch random.IntN(20) {
			case 0:
				m.Close()
				m = enginetest.OpenMount(t, m.Disk, 0, storagetest.None)
			case 1: // in the middle of something
				m.Storage.FailNext(1+random.IntN(20), storagetest.Gone)
				m.Tick()
				m.Crash()
				m = enginetest.OpenMount(t, m.Disk, 0, storagetest.None)
			}
		}
		enginetest.Advance(time.Minute)
		for n := range tenants {
			got := m.RotationsOf(enginetest.TenantN(n))
			// In 365 days, with up to a day of jitter each time, 90 days pass four
			// times; for those created late, perhaps only three.
			require.GreaterOrEqual(t, len(got), 3, "tenant %d", n)
			require.LessOrEqual(t, len(got), 4, "tenant %d", n)
			for i := range got[1:] {
				later, err := time.Parse(time.RFC3339, got[i]["started_at"].(string))
				require.NoError(t, err)
				earlier, err := time.Parse(time.RFC3339, got[i+1]["started_at"].(string))
				require.NoError(t, err)
				require.GreaterOrEqual(t, later.Sub(earlier), 90*enginetest.Day)
				require.Less(t, later.Sub(earlier), 93*enginetest.Day)
			}
		}
		m.Close()
	})
}
