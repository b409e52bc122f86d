// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package backend

import (
	"math/rand/v2"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/storagetest"
)

const year = 365 * day

// jumpy is a clock that jumps, and knows of nothing else.
type jumpy struct{ by atomic.Int64 }

func (c *jumpy) now() time.Time        { return time.Now().Add(time.Duration(c.by.Load())).Round(0) }
func (c *jumpy) jump(by time.Duration) { c.by.Add(int64(by)) }
func (c *jumpy) engine(w *witness) *mount {
	return conditions{clock: c.now}.engine(w.t, w.disk, 0, storagetest.None)
}

// onJumpy is a witness of a tenant with items, whose engine has a clock that jumps.
func onJumpy(t *testing.T) (*witness, *jumpy) {
	t.Helper()
	clock := new(jumpy)
	w := newWitness(newMount(t))
	w.close()
	w = w.on(clock.engine(w))
	w.start()
	slowly(w.mount)
	w.must(update, "config", map[string]any{"scheduler_jitter": 0})
	w.create()
	w.bulk(25, 3000)
	return w, clock
}

var jumps = map[string]time.Duration{"forward": year + day, "back": -year - day}

// A clock that jumps while a rotation is under way does not keep it from ending,
// nor make its figures absurd.
func TestClockJumpsDuringARotation(t *testing.T) {
	for name, by := range jumps {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w, clock := onJumpy(t)
				defer w.close()
				sane := func(id string) {
					st := w.status(id)
					require.GreaterOrEqual(t, st["percent"], 0.0)
					require.LessOrEqual(t, st["percent"], 100.0)
					require.GreaterOrEqual(t, st["items_per_second"], 0.0)
					if text, ok := st["estimated_completion"].(string); ok {
						at, err := time.Parse(time.RFC3339, text)
						require.NoError(t, err)
						require.Less(t, at.Sub(clock.now()).Abs(), day)
					}
				}
				id := ""
				w.midSweep(func() {
					id = w.rotations[0]
					sane(id)
					clock.jump(by)
					sane(id)
					w.act("pause", "paused")
					w.act("resume", "completed")
					w.put("bulk/1", "after the jump")
					w.tick()
					sane(id)
				})
				advance(time.Minute)
				sane(id)
				require.Equal(t, "completed", w.status(id)["status"])
				w.readsBack()
				w.atRest()
				require.GreaterOrEqual(t, w.must(read, "status", nil)["oldest_key_age"], int64(0))

				w.hourly(2 * day)
				once := len(w.rotationsOf(testTenant))
				require.LessOrEqual(t, once, 2, "by a clock that has jumped ahead, one is due")
				clock.jump(-by)
				w.hourly(2 * day)
				clock.jump(by)
				w.hourly(2 * day)
				require.Len(t, w.rotationsOf(testTenant), once, "no date is served twice")
				require.GreaterOrEqual(t, w.must(read, "status", nil)["oldest_key_age"], int64(0))
				w.readsBack()
			})
		})
	}
}

// However the clock jumps, two rotations of a tenant lie an interval apart by it,
// and everything that was written reads back.
func TestClockThatJumpsAllTheTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		random := rand.New(rand.NewPCG(seedOf(t), 1))
		w, clock := onJumpy(t)
		defer w.close()
		w.must(update, "key/rotationSettings", map[string]any{"rotation_interval": "90_DAYS"})
		for range 200 {
			clock.jump(time.Duration(random.Int64N(int64(4*year))) - 2*year)
			w.tick()
			w.hourly(3 * time.Hour)
		}
		var at []time.Time
		for _, r := range w.rotationsOf(testTenant) {
			require.Equal(t, "completed", r["status"])
			started, err := time.Parse(time.RFC3339, r["started_at"].(string))
			require.NoError(t, err)
			at = append(at, started)
		}
		require.Greater(t, len(at), 1)
		for i := range at[1:] {
			require.GreaterOrEqual(t, at[i].Sub(at[i+1]), 90*day)
		}
		w.readsBack()
		w.atRest()
	})
}

// A clock that jumps ahead of the time for which a retired key is kept destroys
// nothing that anything depends on: not the key of a page that turns up late, nor
// one that ciphertexts need.
func TestClockJumpsOverTheRetention(t *testing.T) {
	for name, by := range jumps {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w, clock := onJumpy(t)
				defer w.close()
				w.must(update, "config", map[string]any{"retired_key_retention": "168h"})
				w.encrypt("outside")
				late := w.lateChild()
				w.rotate()
				advance(time.Minute)
				late.lands(w.disk)
				// Another rotation would do away with it.
				w.must(update, tenantPath(""), map[string]any{"rotation_paused": true})
				clock.jump(by)
				w.hourly(3 * day)
				v := w.versionList()[0]
				require.Equal(t, []any{"deactivated", 1}, []any{v["state"], v["version"]})
				require.NotEmpty(t, w.disk.Value("keys/"+w.record().Incarnation+"/"+v["key_id"].(string)), "its page key")
				w.readsBack()

				clock.jump(-by)
				w.hourly(10 * day)
				w.readsBack()
				w.works()
			})
		})
	}
}

// A window in which a deleted tenant can be restored does not end early because the
// clock was set back, and one that it ends by is over.
func TestClockJumpsDuringADeletion(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, clock := onJumpy(t)
		defer w.close()
		w.deleteTenant("168h")
		clock.jump(-year)
		w.hourly(9 * day)
		w.readsBack() // restored
		w.deleteTenant("168h")
		clock.jump(year)
		w.tick()
		_, err := w.call(read, tenantPath(""), nil)
		require.ErrorContains(t, err, "tenant not found")
	})
}
