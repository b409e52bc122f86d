// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package tenant

import "time"

// manualWindow is the time over which rotations are counted that callers start.
const manualWindow = time.Hour

// ManualCount counts the rotations that callers have started since a time.
type ManualCount struct {
	Since time.Time `json:"since"`
	N     int       `json:"n"`
}

// TakeManual counts one more rotation, if fewer than limit were counted in the hour
// since the first of them; a limit of 0 is none. Else it returns after what time there is
// room for one.
func (t *Record) TakeManual(limit int, now time.Time) (retryAfter time.Duration, ok bool) {
	passed := now.Sub(t.Manual.Since)
	if passed < 0 || passed >= manualWindow { // a clock that was set back ends it, too
		t.Manual, passed = ManualCount{Since: now}, 0
	}
	if limit > 0 && t.Manual.N >= limit {
		return manualWindow - passed, false
	}
	t.Manual.N++
	return 0, true
}
