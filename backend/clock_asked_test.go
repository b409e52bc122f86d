// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package backend

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

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
		w.b.workers.stop() // a failover: the asking node does nothing more
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
