// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package schedule_test

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/enginetest"
)

func retries(w *enginetest.Oracle) int { return w.Record().Last.Retries }

// A page that never opens is tried again after a day, then two, four and so on,
// by the same rotation: it costs a version an interval, not one a day.
func TestFailuresAreTriedLessAndLess(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := enginetest.Failing(t)
		defer w.Close()
		began := time.Now()
		var after []time.Duration
		for len(after) < 6 {
			before := retries(w)
			w.Hourly(time.Hour)
			if retries(w) > before {
				after = append(after, time.Since(began).Round(enginetest.Day))
			}
		}
		want := []time.Duration{1 * enginetest.Day, 3 * enginetest.Day, 7 * enginetest.Day, 15 * enginetest.Day, 31 * enginetest.Day, 63 * enginetest.Day}
		require.Equal(t, want, after)
		require.Len(t, w.RotationsOf(enginetest.TenantID), 1)
		// Its interval has passed once more: then a new key is due all the same.
		w.Hourly(40 * enginetest.Day)
		require.Len(t, w.RotationsOf(enginetest.TenantID), 2)
		require.EqualValues(t, 1, w.Must(enginetest.Read, "status", nil)["rotations_failed"])

		w.Damage() // and it is repaired
		w.Hourly(40 * enginetest.Day)
		require.Equal(t, "completed", w.Latest()["status"])
		require.Len(t, w.RotationsOf(enginetest.TenantID), 2)
		require.Zero(t, w.Record().FailedInARow)
		require.Zero(t, w.Must(enginetest.Read, "status", nil)["rotations_failed"])
		w.Hourly(90 * enginetest.Day)
		require.Len(t, w.RotationsOf(enginetest.TenantID), 3, "and then it goes by the interval again")
	})
}

// Who asks for a rotation has the back-off begin anew; who asks while one runs
// that fails is not put off by it.
func TestAskingEndsTheBackOff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := enginetest.Failing(t)
		defer w.Close()
		w.Hourly(10 * enginetest.Day)
		require.Equal(t, 4, w.Record().FailedInARow)
		w.Must(enginetest.Update, enginetest.TenantPath("/dek/rotate"), nil)
		enginetest.Advance(time.Minute)
		require.Equal(t, 1, w.Record().FailedInARow)
		require.WithinDuration(t, time.Now().Add(enginetest.Day), w.Record().RotateAfter, time.Hour)

		n := len(w.RotationsOf(enginetest.TenantID))
		w.Must(enginetest.Update, "rotations", map[string]any{"tenants": []any{enginetest.TenantID}, "reason": "leak"})
		enginetest.Advance(time.Minute)
		require.Len(t, w.RotationsOf(enginetest.TenantID), n+1, "at once, and a new key")
		require.Equal(t, "leak", w.Latest()["reason"])
		w.Must(enginetest.Update, "rotations", map[string]any{"all": true, "reason": "again"})
		enginetest.Advance(time.Minute)
		require.Len(t, w.RotationsOf(enginetest.TenantID), n+2, "a failure before it does not put it off")
		w.Hourly(12 * time.Hour)
		require.Len(t, w.RotationsOf(enginetest.TenantID), n+2, "one after it does")
		st := w.Must(enginetest.Read, "status", nil)
		require.Equal(t, 1, st["overdue"], "the rotation is still owed")
		require.Contains(t, st["blocked_tenants"].(map[string]string)[enginetest.TenantID], "its rotation failed: it is tried again at ")
	})
}

func TestAskedForWhileARotationFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := enginetest.Failing(t)
		defer w.Close()
		place := w.Engine.Pages.Request()
		<-place
		for range 31 { // the last place is given to no page before it is given back
			<-w.Engine.Pages.Request()
		}
		w.Must(enginetest.Update, enginetest.TenantPath("/dek/rotate"), nil)
		synctest.Wait()
		n := len(w.RotationsOf(enginetest.TenantID))
		w.Must(enginetest.Update, "rotations", map[string]any{"tenants": []any{enginetest.TenantID}, "reason": "leak"})
		for range 32 {
			w.Engine.Pages.Release()
		}
		enginetest.Advance(time.Minute)
		w.Tick()
		require.Len(t, w.RotationsOf(enginetest.TenantID), n+1)
		require.Equal(t, "leak", w.Latest()["reason"])
	})
}
