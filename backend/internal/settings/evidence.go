// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package settings

import (
	"context"
	"strconv"
	"time"

	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/ledger"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/storage"
	"github.com/vault-plugin-dek/vault-plugin-dek/evidence"
)

// An entry of the settings carries the events that it decided until the evidence log has
// them, as a tenant's record does: the Put that changes a setting adds the event, and the
// next Put that comes along drops what is logged.

// UseLedger lets the ledger know of changes. It is called before the store is used.
func (s *Store) UseLedger(l *ledger.Ledger) { s.ledger = l }

// logged returns what an entry carries after a change of the settings at a path of the
// engine, with its event if there is one. What was before is nil where it could not be
// read.
func (s *Store) logged(ctx context.Context, carried []ledger.Event, path string, before, after evidence.Values) ([]ledger.Event, error) {
	if s.ledger == nil {
		return carried, nil
	}
	carried = s.ledger.Unlogged(ctx, carried)
	change := evidence.Change{Old: evidence.Values{}, New: evidence.Values{}}
	for name, value := range after {
		old, had := before[name]
		if had && old == value {
			continue
		}
		change.New[name] = value
		if had {
			change.Old[name] = old
		}
	}
	for name, old := range before {
		if _, has := after[name]; !has {
			change.Old[name] = old
		}
	}
	if len(change.New)+len(change.Old) == 0 {
		return carried, nil
	}
	h, err := s.ledger.Head(ctx, "")
	if err != nil {
		return nil, err
	}
	return ledger.Carry(carried, h, &evidence.SettingsChanged{Path: path, Change: change}, path)
}

// put stores an entry and has the events logged that it carries. After an error it may
// have taken effect: then a later reading finds them.
func (s *Store) put(ctx context.Context, key string, entry any, carried []ledger.Event) error {
	if err := s.mount.PutJSON(ctx, key, entry); err != nil {
		s.notice.Again()
		return err
	}
	if s.ledger != nil && len(carried) > 0 {
		s.ledger.Tell(ctx, carried, 0, nil)
	}
	return nil
}

// MayLack reports whether the entries are to be read for events that the evidence log may
// lack: after a start, after a Put that failed, and once a day.
func (s *Store) MayLack(now time.Time) bool { return s.ledger != nil && s.notice.Due(now) }

// TellAgain tells the ledger of the events that the entries carry and the log lacks. An
// entry is put again as it was read before they are told: a Put with a hidden effect may
// have undone them. It waits until the log is open, holding no lock. An entry that is
// damaged tells nothing. A name that an earlier version has stored with a campaign moves to
// where it can be erased.
func (s *Store) TellAgain(ctx context.Context, now time.Time) error {
	s.lock.Lock()
	if s.looked {
		s.config.Drop() // what is in memory is of this process
		s.rotation.Drop()
	}
	s.looked = true
	s.notice.Begin(now)
	c, r, err := s.stored(ctx)
	s.lock.Unlock()
	if err == nil {
		var needs bool
		needs, err = s.ledger.NeedsPut(ctx, r.Campaign.By, append(c.Unlogged, r.Unlogged...))
		if err == nil && (needs || r.named) {
			err = s.putAgain(ctx)
		}
	}
	if err != nil {
		s.notice.Again()
	}
	return err
}

func (s *Store) stored(ctx context.Context) (Config, Rotation, error) {
	c, err := s.StoredConfig(ctx)
	if err != nil && !storage.IsDamaged(err) {
		return c, Rotation{}, err
	}
	r, err := s.StoredRotation(ctx)
	if storage.IsDamaged(err) {
		err = nil
	}
	return c, r, err
}

func (s *Store) putAgain(ctx context.Context) error {
	s.lock.Lock()
	defer s.lock.Unlock()
	c, r, err := s.stored(ctx)
	if err == nil && len(c.Unlogged) > 0 {
		err = s.put(ctx, configKey, c, c.Unlogged)
	}
	if err == nil && (len(r.Unlogged) > 0 || r.named) {
		defer s.rotation.Drop() // after the write, and after a failed one too
		err = s.put(ctx, settingsKey, r, r.Unlogged)
	}
	return err
}

// values are the settings as the evidence log has them.
func (c *Config) values() evidence.Values {
	seconds := func(d time.Duration) string { return strconv.FormatInt(int64(d/time.Second), 10) }
	v := evidence.Values{
		"org_id":                    c.OrgID,
		"rotation_parallelism":      strconv.Itoa(c.RotationParallelism),
		"max_item_bytes":            strconv.Itoa(c.MaxItemBytes),
		"retired_key_retention":     seconds(c.RetiredKeyRetention),
		"scheduler_jitter":          seconds(c.SchedulerJitter),
		"min_deletion_window":       seconds(c.MinDeletionWindow),
		"data_key_lease":            seconds(c.DataKeyLease),
		"cache_bytes":               strconv.Itoa(c.CacheBytes),
		"kek_rotation_interval":     seconds(c.KEKRotationInterval),
		"max_concurrent_rotations":  strconv.Itoa(c.MaxConcurrentRotations),
		"manual_rotations_per_hour": strconv.Itoa(c.ManualRotationsPerHour),
	}
	if p := c.LowerDeletionWindow; p != nil {
		v["min_deletion_window_pending"] = seconds(p.Window)
	}
	return v
}

// values are the settings as the evidence log has them.
func (r *Rotation) values() evidence.Values {
	interval := IntervalLength(r.RotationInterval)
	return evidence.Values{"rotation_interval": strconv.FormatInt(int64(interval/time.Second), 10)}
}
