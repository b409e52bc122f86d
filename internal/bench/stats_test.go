// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package main

import (
	"context"
	"errors"
	"math"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestPercentileIsTheNearestRank(t *testing.T) {
	hundred := make([]float64, 100)
	for i := range hundred {
		hundred[i] = float64(100 - i) // in any order
	}
	for _, c := range []struct {
		samples []float64
		p, want float64
	}{
		{hundred, 0, 1},
		{hundred, 50, 50},
		{hundred, 99, 99},
		{hundred, 100, 100},
		{[]float64{7}, 99, 7},
		{[]float64{3, 1, 2}, 50, 2},
		{[]float64{3, 1, 2}, 99, 3},
	} {
		require.InDelta(t, c.want, percentile(c.samples, c.p), 0, "p%g of %d", c.p, len(c.samples))
	}
	require.True(t, math.IsNaN(percentile(nil, 50)))
}

func TestPercentileLeavesTheSamplesInOrder(t *testing.T) {
	samples := []float64{3, 1, 2}
	percentile(samples, 50)
	median(samples)
	require.Equal(t, []float64{3, 1, 2}, samples)
}

func TestMedian(t *testing.T) {
	require.InDelta(t, 2.0, median([]float64{9, 1, 2}), 0)
	require.InDelta(t, 3.0, median([]float64{9, 4, 1, 2}), 0)
	require.True(t, math.IsNaN(median(nil)))
}

func TestMedianRatioComparesRoundByRound(t *testing.T) {
	// A machine that is half as fast in one round: the ratio stays.
	require.InDelta(t, 2.0, medianRatio([]float64{20, 10, 20}, []float64{10, 5, 10}), 1e-9)
}

func TestAlternateTakesTurnsAndDropsTheFirstRound(t *testing.T) {
	var order string
	named := func(name string, values ...float64) side {
		return func(context.Context) (float64, error) {
			order += name
			v := values[0]
			values = values[1:]
			return v, nil
		}
	}
	rates, err := alternate(context.Background(), 2, named("a", 1, 2, 3), named("b", 4, 5, 6))
	require.NoError(t, err)
	require.Equal(t, "ababab", order)
	require.Equal(t, [][]float64{{2, 3}, {5, 6}}, rates)
}

func TestClosedLoopCountsAndStopsAtAnError(t *testing.T) {
	rate, err := closedLoop(context.Background(), 4, 20*time.Millisecond, func(context.Context, int) error { return nil })
	require.NoError(t, err)
	require.Positive(t, rate)

	broken := errors.New("broken")
	_, err = closedLoop(context.Background(), 4, time.Hour, func(_ context.Context, n int) error {
		if n == 10 {
			return broken
		}
		return nil
	})
	require.ErrorIs(t, err, broken)
}
