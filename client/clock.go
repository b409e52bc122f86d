// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package client

import "time"

// clock reads the time of two clocks at once.
type clock func() instant

// instant is a moment by the monotonic and by the wall clock.
type instant struct {
	monotonic time.Duration // since the process started
	wall      time.Time     // without a monotonic reading
}

var processStart = time.Now()

func systemClock() instant {
	now := time.Now()
	return instant{now.Sub(processStart), now.Round(0)}
}

func (i instant) add(d time.Duration) instant {
	return instant{i.monotonic + d, i.wall.Add(d)}
}

// reached reports whether i has come by either clock. The monotonic one stands
// still while the machine sleeps; the wall clock may be set back.
func (i instant) reached(now instant) bool {
	return now.monotonic >= i.monotonic || !now.wall.Before(i.wall)
}
