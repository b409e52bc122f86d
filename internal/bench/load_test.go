// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package main

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

// A stall must show in every request that was due meanwhile.
func TestOpenLoopCountsFromWhenARequestWasDue(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := startOpenLoop(context.Background(), 100, func(context.Context, int) error {
			<-time.After(30 * time.Millisecond)
			return nil
		})
		<-time.After(95 * time.Millisecond)
		samples, err := l.stop()
		require.NoError(t, err)
		require.Len(t, samples, 10)
		for _, ms := range samples {
			require.InDelta(t, 30, ms, 0.001)
		}
	})
}
