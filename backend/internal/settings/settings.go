// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package settings

import (
	"context"
	"time"

	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/ledger"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/storage"
)

const (
	configKey   = "config"
	settingsKey = "settings"
)

// Limits of the settings.
const (
	MaxParallelism  = 32     // pages in flight; beyond it raft gains nothing
	MaxItemBytes    = 393216 // what still leaves a page entry below 512 KiB
	defaultMaxBytes = 262144

	DefaultRotationInterval = "365_DAYS"
)

// Config is the mount's configuration.
type Config struct {
	OrgID string `json:"org_id"`
	// RotationParallelism bounds the pages in flight over all tenants.
	RotationParallelism int `json:"rotation_parallelism"`
	// MaxItemBytes bounds an encoded item: name, data and metadata together.
	MaxItemBytes int `json:"max_item_bytes"`
	// RetiredKeyRetention is how long the page key of a version that was rotated
	// away is kept; 0 destroys it at once.
	RetiredKeyRetention time.Duration `json:"retired_key_retention"`
	// MaxConcurrentRotations bounds the rotations that the schedule starts.
	MaxConcurrentRotations int `json:"max_concurrent_rotations"`
	// SchedulerJitter spreads the starts of rotations that are due at once.
	SchedulerJitter time.Duration `json:"scheduler_jitter"`
	// MinDeletionWindow is how long a deleted tenant can be restored at least, unless
	// LowerDeletionWindow has come into force: see MinDeletion.
	MinDeletionWindow   time.Duration  `json:"min_deletion_window"`
	LowerDeletionWindow *PendingWindow `json:"min_deletion_window_pending,omitempty"`
	// DataKeyLease is how long a caller may go on using a data key.
	DataKeyLease time.Duration `json:"data_key_lease"`
	// LongerDataKeyLease is of before it was lowered, nil if it never was.
	LongerDataKeyLease *LongerLease `json:"longer_data_key_lease,omitempty"`
	// CacheBytes bounds the caches together; 0: the machine's memory decides.
	CacheBytes int `json:"cache_bytes,omitempty"`
	// KEKRotationInterval is how old the mount's key-encryption key may get; 0: it is
	// rotated by hand alone.
	KEKRotationInterval time.Duration `json:"kek_rotation_interval"`

	// Unreadable says that this is not what was configured, which cannot be read.
	Unreadable bool `json:"-"`
	// Repaired says that a write has replaced what could not be read.
	Repaired bool `json:"-"`
	// ManualRotationsPerHour bounds the rotations of one tenant that callers start in
	// an hour; 0: there is no limit.
	ManualRotationsPerHour int `json:"manual_rotations_per_hour"`

	// Unlogged are the events that the evidence log may lack.
	Unlogged []ledger.Event `json:"unlogged,omitempty"`
}

// Config returns the configuration in force: that of [Store.SafeConfig] if what was
// configured cannot be read any more.
func (s *Store) Config(ctx context.Context) (Config, error) {
	c, err := s.StoredConfig(ctx)
	if storage.IsDamaged(err) {
		return s.SafeConfig(), nil
	}
	return c, err
}

// StoredConfig is Config, and fails with [storage.ErrDamaged].
func (s *Store) StoredConfig(ctx context.Context) (Config, error) {
	c, generation := s.config.Get()
	if c != nil {
		return *c, nil
	}
	read := s.defaultConfig()
	if _, err := s.mount.GetJSON(ctx, configKey, &read); err != nil {
		return Config{}, err
	}
	s.config.Keep(&read, generation)
	s.watch(read)
	return read, nil
}

func (s *Store) defaultConfig() Config {
	return Config{
		OrgID:               s.orgID,
		RotationParallelism: MaxParallelism,
		MaxItemBytes:        defaultMaxBytes,

		RetiredKeyRetention:    7 * 24 * time.Hour,
		MaxConcurrentRotations: 64,
		SchedulerJitter:        24 * time.Hour,
		MinDeletionWindow:      24 * time.Hour,
		DataKeyLease:           time.Hour,
		KEKRotationInterval:    365 * day,
		ManualRotationsPerHour: 60,
	}
}

// UpdateConfig changes the configuration by change, which may refuse with an
// error of its own, and returns what is in force then. One that cannot be read is
// written anew: see [Store.repairedConfig].
func (s *Store) UpdateConfig(ctx context.Context, change func(*Config) error) (Config, error) {
	s.lock.Lock()
	defer s.lock.Unlock()
	c, err := s.StoredConfig(ctx)
	if storage.IsDamaged(err) {
		c, err = s.repairedConfig(), nil
	}
	if err != nil {
		return Config{}, err
	}
	before := c.values()
	if c.Repaired {
		before = nil
	}
	if err := change(&c); err != nil {
		return Config{}, err
	}
	if c.Unlogged, err = s.logged(ctx, c.Unlogged, "config", before, c.values()); err != nil {
		return Config{}, err
	}
	defer s.config.Drop() // after the write, and after a failed one too
	if err := s.put(ctx, configKey, c, c.Unlogged); err != nil {
		return Config{}, err
	}
	s.watch(c)
	return c, nil
}
