// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package settings

import "time"

// PendingWindow is a lower minimum that is not in force yet.
type PendingWindow struct {
	Window time.Duration `json:"window"`
	At     time.Time     `json:"at"`
}

// MinDeletion is how long a tenant that is deleted now can be restored at least, and
// the lower minimum that is to come, nil if there is none.
func (c Config) MinDeletion(now time.Time) (least time.Duration, pending *PendingWindow) {
	if p := c.LowerDeletionWindow; p != nil && !now.Before(p.At) {
		return p.Window, nil
	}
	return c.MinDeletionWindow, c.LowerDeletionWindow
}

// SetMinDeletion raises the minimum at once. It lowers it once the one in force has
// passed, so that whoever gets hold of the right to configure cannot destroy a tenant
// sooner than before: unless atOnce says that there is no tenant yet.
func (c *Config) SetMinDeletion(window time.Duration, now time.Time, atOnce bool) {
	least, pending := c.MinDeletion(now)
	c.MinDeletionWindow, c.LowerDeletionWindow = least, nil
	switch {
	case window >= least || atOnce:
		c.MinDeletionWindow = window
	case pending != nil && pending.Window == window:
		c.LowerDeletionWindow = pending // asked for again: it does not begin anew
	default:
		c.LowerDeletionWindow = &PendingWindow{Window: window, At: now.Add(least)}
	}
}
