// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package outage

import (
	"math/rand/v2"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/enginetest"
)

const year = 365 * enginetest.Day

var jumps = map[string]time.Duration{"forward": year + enginetest.Day, "back": -year - enginetest.Day}

// A clock that jumps while a rotation is under way does not keep it from ending,
// nor make its figures absurd.
func TestClockJumpsDuringARotation(t *testing.T) {
	for name, by := range jumps {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w, clock := enginetest.OnJumpingClock(t)
				defer w.Close()
				sane := func(id string) {
					st := w.Status(id)
					require.GreaterOrEqual(t, st["percent"], 0.0)
					require.LessOrEqual(t, st["percent"], 100.0)
					require.GreaterOrEqual(t, st["items_per_second"], 0.0)
					if text, ok := st["estimated_completion"].(string); ok {
						at, err := time.Parse(time.RFC3339, text)
						require.NoError(t, err)
						require.Less(t, at.Sub(clock.Now()).Abs(), enginetest.Day)
					}
				}
				id := ""
				w.MidSweep(func() {
					id = w.Rotations[0]
					sane(id)
					clock.Jump(by)
					sane(id)
					w.Act("pause", "paused")
					w.Act("resume", "completed")
					w.Put("bulk/1", "after the jump")
					w.Tick()
					sane(id)
				})
				enginetest.Advance(time.Minute)
				sane(id)
				require.Equal(t, "completed", w.Status(id)["status"])
				w.ReadsBack()
				w.AtRest()
				require.GreaterOrEqual(t, w.Must(enginetest.Read, "status", nil)["oldest_key_age"], int64(0))

				w.Hourly(2 * enginetest.Day)
				once := len(w.RotationsOf(enginetest.TenantID))
				require.LessOrEqual(t, once, 2, "by a clock that has jumped ahead, one is due")
				clock.Jump(-by)
				w.Hourly(2 * enginetest.Day)
				clock.Jump(by)
				w.Hourly(2 * enginetest.Day)
				require.Len(t, w.RotationsOf(enginetest.TenantID), once, "no date is served twice")
				require.GreaterOrEqual(t, w.Must(enginetest.Read, "status", nil)["oldest_key_age"], int64(0))
				w.ReadsBack()
			})
		})
	}
}

// However the clock jumps, two rotations of a tenant lie an interval apart by it,
// and everything that was written reads back.
func TestClockThatJumpsAllTheTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		random := rand.New(rand.NewPCG(enginetest.SeedOf(t), 1))
		w, clock := enginetest.OnJumpingClock(t)
		defer w.Close()
		w.Must(enginetest.Update, "key/rotationSettings", map[string]any{"rotation_interval": "90_DAYS"})
		for range 200 {
			clock.Jump(time.Duration(random.Int64N(int64(4*year))) - 2*year)
			w.Tick()
			w.Hourly(3 * time.Hour)
		}
		var at []time.Time
		for _, r := range w.RotationsOf(enginetest.TenantID) {
			require.Equal(t, "completed", r["status"])
			started, err := time.Parse(time.RFC3339, r["started_at"].(string))
			require.NoError(t, err)
			at = append(at, started)
		}
		require.Greater(t, len(at), 1)
		for i := range at[1:] {
			require.GreaterOrEqual(t, at[i].Sub(at[i+1]), 90*enginetest.Day)
		}
		w.ReadsBack()
		w.AtRest()
	})
}

// A clock that jumps ahead of the time for which a retired key is kept destroys
// nothing that anything depends on: not the key of a page that turns up late, nor
// one that ciphertexts need.
func TestClockJumpsOverTheRetention(t *testing.T) {
	for name, by := range jumps {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w, clock := enginetest.OnJumpingClock(t)
				defer w.Close()
				w.Must(enginetest.Update, "config", map[string]any{"retired_key_retention": "168h"})
				w.Encrypt("outside")
				late := w.DelayedChild()
				w.Rotate()
				enginetest.Advance(time.Minute)
				late.Lands(w.Disk)
				// Another rotation would do away with it.
				w.Must(enginetest.Update, enginetest.TenantPath(""), map[string]any{"rotation_paused": true})
				clock.Jump(by)
				w.Hourly(3 * enginetest.Day)
				v := w.VersionList()[0]
				require.Equal(t, []any{"deactivated", 1}, []any{v["state"], v["version"]})
				require.NotEmpty(t, w.Disk.Value("keys/"+w.Record().Incarnation+"/"+v["key_id"].(string)), "its page key")
				w.ReadsBack()

				clock.Jump(-by)
				w.Hourly(10 * enginetest.Day)
				w.ReadsBack()
				w.Works()
			})
		})
	}
}

// A window in which a deleted tenant can be restored does not end early because the
// clock was set back, and one that it ends by is over.
func TestClockJumpsDuringADeletion(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, clock := enginetest.OnJumpingClock(t)
		defer w.Close()
		w.DeleteTenant("168h")
		clock.Jump(-year)
		w.Hourly(9 * enginetest.Day)
		w.ReadsBack() // restored
		w.DeleteTenant("168h")
		clock.Jump(year)
		w.Tick()
		_, err := w.Call(enginetest.Read, enginetest.TenantPath(""), nil)
		require.ErrorContains(t, err, "tenant not found")
	})
}
