// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package settings

import "time"

const (
	// MaxDeletionWindow is the longest time for which a deleted tenant can be restored.
	MaxDeletionWindow = 30 * 24 * time.Hour
	// longestRetention is that of a configuration that cannot be read.
	longestRetention = 10 * 366 * 24 * time.Hour
	// shortestInterval is the interval of settings that cannot be read.
	shortestInterval = "90_DAYS"
)

// SafeConfig is in force while what was configured cannot be read. Whatever that was,
// it destroys nothing earlier, rotates nothing later, and lets no caller keep a data key
// for longer.
func (s *Store) SafeConfig() Config {
	c := s.defaultConfig()
	c.RetiredKeyRetention = longestRetention
	c.MinDeletionWindow = MaxDeletionWindow
	c.DataKeyLease = 0
	c.SchedulerJitter = 0
	c.Unreadable = true
	return c
}

// SafeRotation is in force while the rotation settings cannot be read. Whatever they
// were, no key gets older than they allowed.
func SafeRotation() Rotation { return Rotation{RotationInterval: shortestInterval} }

// repairedConfig is what a write begins from that replaces a configuration that cannot
// be read: the defaults, and the longest deletion window. Damage must not let a caller
// shorten that.
func (s *Store) repairedConfig() Config {
	c := s.defaultConfig()
	c.MinDeletionWindow = MaxDeletionWindow
	c.Repaired = true
	return c
}
