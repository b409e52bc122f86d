// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package enginetest

import (
	"os"
	"runtime"
	"runtime/debug"
	"strconv"
	"testing"

	"github.com/stretchr/testify/require"
)

// InOrder lets one goroutine run at a time for the rest of the test, so that a seed
// gives the same run each time. Thousands of engines live shortly: they are
// collected more seldom.
func InOrder(t *testing.T) {
	procs, percent := runtime.GOMAXPROCS(1), debug.SetGCPercent(400)
	t.Cleanup(func() {
		runtime.GOMAXPROCS(procs)
		debug.SetGCPercent(percent)
	})
}

// SeedOf is where items are placed and what keys and IDs are: one seed, one
// run, as far as goroutines allow.
func SeedOf(t *testing.T) uint64 {
	t.Helper()
	text := os.Getenv("CRASH_SEED")
	if text == "" {
		return 1
	}
	seed, err := strconv.ParseUint(text, 10, 64)
	require.NoError(t, err, "CRASH_SEED")
	return seed
}
