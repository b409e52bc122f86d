// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package backend

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

// failing is a tenant with a page that does not open, whose rotation has just
// failed for the first time.
func failing(t *testing.T) *witness {
	t.Helper()
	w := newWitness(newMount(t))
	w.must(update, "config", map[string]any{"scheduler_jitter": 0})
	w.must(update, "key/rotationSettings", map[string]any{"rotation_interval": "90_DAYS"})
	w.create()
	w.put("a", "1")
	w.damage()
	w.hourly(90*day + time.Hour)
	require.Equal(t, "failed", w.latest()["status"])
	return w
}

func (w *witness) latest() map[string]any { return w.rotationsOf(testTenant)[0] }

func (w *witness) retries() int { return w.record().Last.Retries }

// A page that never opens is tried again after a day, then two, four and so on,
// by the same rotation: it costs a version an interval, not one a day.
func TestFailuresAreTriedLessAndLess(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := failing(t)
		defer w.close()
		began := time.Now()
		var after []time.Duration
		for len(after) < 6 {
			before := w.retries()
			w.hourly(time.Hour)
			if w.retries() > before {
				after = append(after, time.Since(began).Round(day))
			}
		}
		want := []time.Duration{1 * day, 3 * day, 7 * day, 15 * day, 31 * day, 63 * day}
		require.Equal(t, want, after)
		require.Len(t, w.rotationsOf(testTenant), 1)
		// Its interval has passed once more: then a new key is due all the same.
		w.hourly(40 * day)
		require.Len(t, w.rotationsOf(testTenant), 2)
		require.EqualValues(t, 1, w.must(read, "status", nil)["rotations_failed"])

		w.damage() // and it is repaired
		w.hourly(40 * day)
		require.Equal(t, "completed", w.latest()["status"])
		require.Len(t, w.rotationsOf(testTenant), 2)
		require.Zero(t, w.record().FailedInARow)
		require.Zero(t, w.must(read, "status", nil)["rotations_failed"])
		w.hourly(90 * day)
		require.Len(t, w.rotationsOf(testTenant), 3, "and then it goes by the interval again")
	})
}

// Who asks for a rotation has the back-off begin anew; who asks while one runs
// that fails is not put off by it.
func TestAskingEndsTheBackOff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := failing(t)
		defer w.close()
		w.hourly(10 * day)
		require.Equal(t, 4, w.record().FailedInARow)
		w.must(update, tenantPath("/dek/rotate"), nil)
		advance(time.Minute)
		require.Equal(t, 1, w.record().FailedInARow)
		require.WithinDuration(t, time.Now().Add(day), w.record().RotateAfter, time.Hour)

		n := len(w.rotationsOf(testTenant))
		w.must(update, "rotations", map[string]any{"tenants": []any{testTenant}, "reason": "leak"})
		advance(time.Minute)
		require.Len(t, w.rotationsOf(testTenant), n+1, "at once, and a new key")
		require.Equal(t, "leak", w.latest()["reason"])
		w.must(update, "rotations", map[string]any{"all": true, "reason": "again"})
		advance(time.Minute)
		require.Len(t, w.rotationsOf(testTenant), n+2, "a failure before it does not put it off")
		w.hourly(12 * time.Hour)
		require.Len(t, w.rotationsOf(testTenant), n+2, "one after it does")
		st := w.must(read, "status", nil)
		require.Equal(t, 1, st["overdue"], "the rotation is still owed")
		require.Contains(t, st["blocked_tenants"].(map[string]string)[testTenant], "its rotation failed: it is tried again at ")
	})
}

func TestAskedForWhileARotationFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := failing(t)
		defer w.close()
		place := w.b.Pages.Request()
		<-place
		for range 31 { // the last place is given to no page before it is given back
			<-w.b.Pages.Request()
		}
		w.must(update, tenantPath("/dek/rotate"), nil)
		synctest.Wait()
		n := len(w.rotationsOf(testTenant))
		w.must(update, "rotations", map[string]any{"tenants": []any{testTenant}, "reason": "leak"})
		for range 32 {
			w.b.Pages.Release()
		}
		advance(time.Minute)
		w.tick()
		require.Len(t, w.rotationsOf(testTenant), n+1)
		require.Equal(t, "leak", w.latest()["reason"])
	})
}
