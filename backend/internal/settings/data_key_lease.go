// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package settings

import "time"

// MaxDataKeyLease bounds how long a caller may go on using a data key.
const MaxDataKeyLease = 24 * time.Hour

// LongerLease says that data keys were answered with a longer lease than now.
type LongerLease struct {
	// Until is when the last of them ends, LoweredAt when the lease was lowered last.
	Until     time.Time `json:"until"`
	LoweredAt time.Time `json:"lowered_at"`
}

// NoteLease notes that the lease was lowered from another, if it was.
func (c *Config) NoteLease(from time.Duration, now time.Time) {
	if c.DataKeyLease >= from {
		return
	}
	until := now.Add(from)
	if former := c.LongerDataKeyLease; former != nil && former.Until.After(until) {
		until = former.Until
	}
	c.LongerDataKeyLease = &LongerLease{Until: until, LoweredAt: now}
}

// LeasesOver returns from when on no caller can hold a data key of a version, with what
// was sealed under it, that has not been stored: the lease after the version was
// deactivated. A lease that was lowered counts as it was answered, for versions that were
// active before.
func (c Config) LeasesOver(activated, deactivated time.Time) time.Time {
	over := deactivated.Add(c.DataKeyLease)
	longer := c.LongerDataKeyLease
	if longer == nil || activated.After(longer.LoweredAt) {
		return over
	}
	former := deactivated.Add(MaxDataKeyLease)
	if longer.Until.Before(former) {
		former = longer.Until
	}
	if former.After(over) {
		return former
	}
	return over
}
