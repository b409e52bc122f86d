// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package backend

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

// rotations all=true by a clock that is ahead, which is then set right, as by a
// failover to a node whose clock is: each key made since is older than asked for,
// and must not be rotated again and again until the clock has caught up.
func TestEveryoneIsRotatedOnceThoughTheClockWasAhead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, clock := onJumpy(t)
		defer w.close()
		w.storage.Hook(func(string, string) { <-time.After(time.Millisecond) })
		clock.jump(30 * time.Second)
		w.must(update, "rotations", map[string]any{"all": true, "reason": "leak"})
		clock.jump(-30 * time.Second)
		w.b.Schedule.Wake()
		advance(10 * time.Second)
		require.LessOrEqual(t, w.must(read, tenantPath("/dek"), nil)["current_version"], 3)
	})
}

// A key that was in use when everyone was to be rotated is rotated, though the clock by
// which it was made and asked for was ahead, and has been set right since.
func TestEveryoneIsRotatedThoughTheirKeysAreOfTheFuture(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, clock := onJumpy(t)
		defer w.close()
		clock.jump(2 * day)
		w.tick()
		w.must(update, "tenants/"+tenantN(1), nil)
		advance(time.Hour)
		w.b.Jobs.Stop() // a failover: the asking node does nothing more
		w.must(update, "rotations", map[string]any{"all": true, "reason": "leak"})
		w.close()
		clock.jump(-2 * day)
		w = w.on(clock.engine(w))
		w.start()
		w.hourly(6 * time.Hour)
		require.Len(t, w.rotationsOf(testTenant), 1, "the first tenant")
		require.Len(t, w.rotationsOf(tenantN(1)), 1, "the other; overdue: %v", w.must(read, "status", nil)["overdue"])
	})
}
