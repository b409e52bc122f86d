// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package settings

import (
	"context"
	"time"

	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/actor"
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
	// CacheBytes bounds the caches together; 0: the machine's memory decides.
	CacheBytes int `json:"cache_bytes,omitempty"`
	// KEKRotationInterval is how old the mount's key-encryption key may get; 0: it is
	// rotated by hand alone.
	KEKRotationInterval time.Duration `json:"kek_rotation_interval"`

	// Unreadable says that this is not what was configured, which cannot be read.
	Unreadable bool `json:"-"`
	// Repaired says that a write has replaced what could not be read.
	Repaired bool `json:"-"`
}

// Rotation has the organization's rotation settings.
type Rotation struct {
	RotationInterval string `json:"rotation_interval"`
	// RotateBefore makes every tenant due whose key is older, for RotateReason:
	// the answer to a leak. It is kept beside the interval since it changes when
	// everyone is due, and rewrites no tenant's record.
	RotateBefore time.Time `json:"rotate_before,omitzero"`
	RotateReason string    `json:"rotate_reason,omitempty"`
	// RotateRequest is the latest request for that, which is kept: sent again, it
	// asks for nothing more.
	RotateRequest string `json:"rotate_request,omitempty"`
	// RotateBy is who asked, and RotatePaused whether paused tenants are among all.
	RotateBy     actor.Actor `json:"rotate_by,omitzero"`
	RotatePaused bool        `json:"rotate_paused,omitempty"`

	// Repaired says that a write has replaced what could not be read.
	Repaired bool `json:"-"`
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
	if err := change(&c); err != nil {
		return Config{}, err
	}
	defer s.config.Drop() // after the write, and after a failed one too
	if err := s.mount.PutJSON(ctx, configKey, c); err != nil {
		return Config{}, err
	}
	s.watch(c)
	return c, nil
}

// Rotation returns the organization's rotation settings: those of [SafeRotation] if
// they cannot be read any more.
func (s *Store) Rotation(ctx context.Context) (Rotation, error) {
	r, err := s.StoredRotation(ctx)
	if storage.IsDamaged(err) {
		return SafeRotation(), nil
	}
	return r, err
}

// StoredRotation is Rotation, and fails with [storage.ErrDamaged].
func (s *Store) StoredRotation(ctx context.Context) (Rotation, error) {
	r, generation := s.rotation.Get()
	if r != nil {
		return *r, nil
	}
	read := Rotation{RotationInterval: DefaultRotationInterval}
	if _, err := s.mount.GetJSON(ctx, settingsKey, &read); err != nil {
		return Rotation{}, err
	}
	s.rotation.Keep(&read, generation)
	return read, nil
}

// UpdateRotation changes the organization's rotation settings and
// returns what is in force then. Those that cannot be read are written anew, from
// their defaults.
func (s *Store) UpdateRotation(ctx context.Context, change func(*Rotation)) (Rotation, error) {
	s.lock.Lock()
	defer s.lock.Unlock()
	r, err := s.StoredRotation(ctx)
	if storage.IsDamaged(err) {
		r, err = Rotation{RotationInterval: DefaultRotationInterval, Repaired: true}, nil
	}
	if err != nil {
		return r, err
	}
	change(&r)
	defer s.rotation.Drop() // after the write, and after a failed one too
	return r, s.mount.PutJSON(ctx, settingsKey, r)
}
