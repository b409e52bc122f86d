// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package backend

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// served is what requests at a steady rate, each read taking so long, leave of
// the pages that rotations may have in flight.
func served(f *foreground, now *time.Time, d, took time.Duration, most int) int {
	for end := now.Add(d); now.Before(end); {
		*now = now.Add(5 * time.Millisecond)
		f.read(*now, took)
	}
	return f.pages(*now, most)
}

func TestRotationsYieldToRequests(t *testing.T) {
	const most = 32
	var f foreground
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	require.Equal(t, most, f.pages(now, most), "nobody is served")
	f.touch(now)
	require.Equal(t, besideRequests, f.pages(now, most))
	require.Equal(t, 2, f.pages(now, 2), "no more than is configured")

	require.Equal(t, leastBeside, served(&f, &now, 5*time.Second, 2*slowRead, most), "reads are slow")
	require.Equal(t, 2, f.pages(now, 2))
	up := served(&f, &now, time.Second, slowRead/2, most)
	require.Greater(t, up, leastBeside, "reads are fast again")
	require.Less(t, up, most, "step by step")
	require.Equal(t, most, served(&f, &now, time.Minute, slowRead/2, most))
	require.Less(t, served(&f, &now, 2*window, 2*slowRead, most), most, "what was not used is not saved up")

	now = now.Add(servedFor)
	require.Equal(t, most, f.pages(now, most), "nobody is served any more")
	f.touch(now)
	require.Equal(t, besideRequests, f.pages(now, most))
}

func TestOneSlowReadOfManyIsTolerated(t *testing.T) {
	var f foreground
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	f.touch(now)
	for i := range 40 * toleratedSlow {
		now = now.Add(time.Millisecond)
		took := time.Millisecond
		if i%toleratedSlow == 0 {
			took = 10 * slowRead
		}
		f.read(now, took)
	}
	require.Greater(t, f.pages(now, 32), besideRequests)
}
