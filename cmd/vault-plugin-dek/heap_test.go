// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package main

import (
	"fmt"
	"runtime"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestPercentFor(t *testing.T) {
	const mb = 1 << 20
	for _, tt := range []struct {
		inUse, heap uint64
		percent     int
	}{
		{0, 160 * mb, 400},
		{20 * mb, 160 * mb, 400},
		{40 * mb, 160 * mb, 300},
		{64 * mb, 160 * mb, 150},
		{80 * mb, 160 * mb, 100},
		{900 * mb, 160 * mb, 100},
		{20 * mb, 32 * mb, 100},
		{20 * mb, 0, 100}, // a machine that does not tell how much memory it has
	} {
		t.Run(fmt.Sprintf("%d of %d", tt.inUse, tt.heap), func(t *testing.T) {
			require.Equal(t, tt.percent, percentFor(tt.inUse, tt.heap))
		})
	}
}

// Collections go on having their turn, not only the first.
func TestAfterEachCollection(t *testing.T) {
	var turns atomic.Int32
	var inUse atomic.Uint64
	afterEachCollection(func(n uint64) {
		turns.Add(1)
		inUse.Store(n)
	})
	for began := time.Now(); turns.Load() < 4; runtime.GC() {
		require.Less(t, time.Since(began), time.Minute, "%d turns", turns.Load())
	}
	require.Positive(t, inUse.Load())
}

func TestIsTuned(t *testing.T) {
	for _, name := range []string{"GOGC", "GOMEMLIMIT"} {
		t.Setenv("GOGC", "")
		t.Setenv("GOMEMLIMIT", "")
		require.False(t, isTuned())
		t.Setenv(name, "100")
		require.True(t, isTuned(), name)
	}
}
