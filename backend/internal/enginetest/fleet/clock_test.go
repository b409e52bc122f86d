// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package fleet

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/enginetest"
)

// rotations all=true by a clock that is ahead, which is then set right, as by a
// failover to a node whose clock is: each key made since is older than asked for,
// and must not be rotated again and again until the clock has caught up.
func TestEveryoneIsRotatedOnceThoughTheClockWasAhead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, clock := enginetest.OnJumpingClock(t)
		defer w.Close()
		w.Storage.Hook(func(string, string) { <-time.After(time.Millisecond) })
		clock.Jump(30 * time.Second)
		w.Must(enginetest.Update, "rotations", map[string]any{"all": true, "reason": "leak"})
		clock.Jump(-30 * time.Second)
		w.Engine.Schedule.Wake()
		enginetest.Advance(10 * time.Second)
		require.LessOrEqual(t, w.Must(enginetest.Read, enginetest.TenantPath("/dek"), nil)["current_version"], 3)
	})
}

// A key that was in use when everyone was to be rotated is rotated, though the clock by
// which it was made and asked for was ahead, and has been set right since.
func TestEveryoneIsRotatedThoughTheirKeysAreOfTheFuture(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, clock := enginetest.OnJumpingClock(t)
		defer w.Close()
		clock.Jump(2 * enginetest.Day)
		w.Tick()
		w.Must(enginetest.Update, "tenants/"+enginetest.TenantN(1), nil)
		enginetest.Advance(time.Hour)
		w.Engine.Jobs.Stop() // a failover: the asking node does nothing more
		w.Must(enginetest.Update, "rotations", map[string]any{"all": true, "reason": "leak"})
		w.Close()
		clock.Jump(-2 * enginetest.Day)
		w = w.On(clock.Engine(w))
		w.Start()
		w.Hourly(6 * time.Hour)
		require.Len(t, w.RotationsOf(enginetest.TenantID), 1, "the first tenant")
		require.Len(t, w.RotationsOf(enginetest.TenantN(1)), 1, "the other; overdue: %v", w.Must(enginetest.Read, "status", nil)["overdue"])
	})
}
