// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package jobs

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// served is what requests at a steady rate, each read taking so long, leave of
// the pages that rotations may have in flight.
func served(f *Limiter, now *time.Time, d, took time.Duration, most int) int {
	for end := now.Add(d); now.Before(end); {
		*now = now.Add(5 * time.Millisecond)
		f.Read(*now, took)
	}
	return f.Limit(*now, most)
}

func TestRotationsYieldToRequests(t *testing.T) {
	const most = 32
	var f Limiter
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	require.Equal(t, most, f.Limit(now, most), "nobody is served")
	f.Touch(now)
	require.Equal(t, besideRequests, f.Limit(now, most))
	require.Equal(t, 2, f.Limit(now, 2), "no more than is configured")

	require.Equal(t, leastBeside, served(&f, &now, 5*time.Second, 2*slowRead, most), "reads are slow")
	require.Equal(t, 2, f.Limit(now, 2))
	up := served(&f, &now, time.Second, slowRead/2, most)
	require.Greater(t, up, leastBeside, "reads are fast again")
	require.Less(t, up, most, "step by step")
	require.Equal(t, most, served(&f, &now, time.Minute, slowRead/2, most))
	require.Less(t, served(&f, &now, 2*window, 2*slowRead, most), most, "what was not used is not saved up")

	now = now.Add(servedFor)
	require.Equal(t, most, f.Limit(now, most), "nobody is served any more")
	f.Touch(now)
	require.Equal(t, besideRequests, f.Limit(now, most))
}

func TestOneSlowReadOfManyIsTolerated(t *testing.T) {
	var f Limiter
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	f.Touch(now)
	for i := range 40 * toleratedSlow {
		now = now.Add(time.Millisecond)
		took := time.Millisecond
		if i%toleratedSlow == 0 {
			took = 10 * slowRead
		}
		f.Read(now, took)
	}
	require.Greater(t, f.Limit(now, 32), besideRequests)
}

func TestRotationsYieldThoughTheClockWasSetBack(t *testing.T) {
	const most = 32
	var f Limiter
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	f.Touch(now)
	now = now.Add(-time.Hour)
	require.Equal(t, leastBeside, served(&f, &now, 5*time.Second, 2*slowRead, most), "reads are slow")
}

func TestRotationsStopYieldingThoughTheClockWasSetBack(t *testing.T) {
	const most = 32
	var f Limiter
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	f.Touch(now)
	now = now.Add(-time.Hour)
	now = now.Add(time.Minute)
	require.Equal(t, most, f.Limit(now, most), "a minute without requests")
}
