// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package store

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/hashicorp/vault/sdk/logical"
)

// The schedule tells which tenants to look at on which day. Its entries are
// hints: they have no content, and the tenant's record decides what there is to
// do. Tenants on the organization's interval lie under the day of their last
// rotation, so that changing the interval rewrites nothing; those with a date of
// their own lie under the day on which they are due.
//
//	schedule/floors                          no hint lies on an earlier day
//	schedule/rotated/<day>/<hh>/<tenant_id>  rotated on that day
//	schedule/due/<day>/<hh>/<tenant_id>      to be rotated on that day
//	schedule/upkeep/<day>/<hh>/<tenant_id>   a key to destroy, or the tenant
//	schedule/aged/<day>/<hh>/<tenant_id>     rotated on that day, and not in rotated
//	schedule/failed/all/<hh>/<tenant_id>     the latest rotation failed
//	schedule/idle/all/<hh>/<tenant_id>       never due: paused, or being deleted
//
// A hint is written before the record that wants it, and deleted after the one
// that does not want it any more. So a tenant is never forgotten; a hint too
// many is dropped by who comes across it.

// Index is one of the lists of hints.
type Index string

// The indexes.
const (
	RotatedOn Index = "rotated"
	DueOn     Index = "due"
	UpkeepOn  Index = "upkeep"
	AgedOn    Index = "aged"
	FailedNow Index = "failed"
	IdleNow   Index = "idle"
)

const (
	schedulePrefix = "schedule/"
	floorsKey      = schedulePrefix + "floors"
	// AnyDay stands where other indexes have a day.
	AnyDay = "all"

	dayFormat = time.DateOnly
)

// Hint is an entry of the schedule.
type Hint struct {
	Index    Index
	Day      string // as 2026-01-31, in UTC
	TenantID string
}

func (h Hint) key() string {
	return schedulePrefix + string(h.Index) + "/" + h.Day + "/" + shard(h.TenantID) + "/" + h.TenantID
}

// DayOf returns the day of a time.
func DayOf(t time.Time) string { return t.UTC().Format(dayFormat) }

// Hints are what the schedule has to hold for t.
func (t *Tenant) Hints() []Hint {
	var hints []Hint
	add := func(i Index, day string) {
		if h := (Hint{i, day, t.ID}); !slices.Contains(hints, h) {
			hints = append(hints, h)
		}
	}
	if t.State != TenantActive {
		add(UpkeepOn, DayOf(t.DeleteAfter))
		add(IdleNow, AnyDay)
		return hints
	}
	for _, v := range t.Keys.Versions {
		if !v.DestroyAfter.IsZero() {
			add(UpkeepOn, DayOf(v.DestroyAfter))
		}
	}
	if t.Last != nil && t.Last.Phase == Failed {
		add(FailedNow, AnyDay)
	}
	if t.RotationPaused {
		add(IdleNow, AnyDay)
	}
	due, own := t.OwnDueDate()
	switch rotated := DayOf(t.LastRotatedAt()); {
	case t.Rotation != nil: // the write-ahead log tells
	case t.RotationPaused:
		add(AgedOn, rotated)
	case own:
		add(DueOn, DayOf(due))
		add(AgedOn, rotated)
	default:
		add(RotatedOn, rotated)
	}
	return hints
}

// Wants reports whether the schedule has to hold h for t.
func (t *Tenant) Wants(h Hint) bool { return slices.Contains(t.Hints(), h) }

// OwnDueDate returns when t is due if it does not simply follow the
// organization's interval.
func (t *Tenant) OwnDueDate() (due time.Time, own bool) {
	switch {
	case !t.RotateAfter.IsZero():
		return t.RotateAfter, true
	case t.RotationInterval != "":
		return t.LastRotatedAt().Add(IntervalLength(t.RotationInterval)), true
	}
	return time.Time{}, false
}

// DueDate returns when the schedule is to rotate t's key.
func (t *Tenant) DueDate(s RotationSettings) time.Time {
	if due, own := t.OwnDueDate(); own {
		return due
	}
	return t.Expires(s)
}

// Interval is how old t's key may get.
func (t *Tenant) Interval(s RotationSettings) time.Duration {
	if t.RotationInterval != "" {
		return IntervalLength(t.RotationInterval)
	}
	return IntervalLength(s.RotationInterval)
}

// Expires is when t's key has the age at which it is to be rotated, whatever
// else has put its rotation forward or off.
func (t *Tenant) Expires(s RotationSettings) time.Time { return t.LastRotatedAt().Add(t.Interval(s)) }

// Commit stores the record that follows old, nil for a new tenant, with its
// hints: the one change of state that there is. The caller holds the tenant's
// lock exclusively. An error leaves open whether the change was made.
func (s *Store) Commit(ctx context.Context, old, next *Tenant) error {
	var had []Hint
	if old != nil {
		had = old.Hints()
	}
	wants := next.Hints()
	// Whoever has looked at the record before this looks at it again.
	defer func() {
		for _, h := range wants {
			s.agenda.changed(h)
		}
	}()
	for _, h := range wants {
		if !slices.Contains(had, h) {
			if err := s.PutHint(ctx, h); err != nil {
				return err
			}
		}
	}
	if err := s.putTenant(ctx, next); err != nil {
		for _, h := range had {
			s.agenda.changed(h)
		}
		return err
	}
	for _, h := range had {
		if !slices.Contains(wants, h) {
			// If this fails the hint is one too many, and dropped later.
			_ = s.deleteHint(ctx, h)
		}
	}
	return nil
}

// deleteHint deletes a hint that is wanted no more.
func (s *Store) deleteHint(ctx context.Context, h Hint) error {
	if err := s.delete(ctx, h.key()); err != nil {
		s.agenda.changed(h)
		return err
	}
	s.agenda.gone(h)
	return nil
}

// PutHint writes a hint.
func (s *Store) PutHint(ctx context.Context, h Hint) error {
	s.floors.lock.RLock()
	defer s.floors.lock.RUnlock()
	if err := s.floors.lower(ctx, s, h); err != nil {
		return err
	}
	e := &logical.StorageEntry{Key: h.key(), Value: []byte{}}
	if err := s.storage.Put(context.WithoutCancel(ctx), e); err != nil {
		return fmt.Errorf("writing the schedule: %w", err)
	}
	return nil
}

// DropHint deletes a hint that the tenant's record does not want. The record is
// first put as it was read (or, if there was none, deleted): a Put of it that
// failed may have taken effect behind a stale cache, and want the hint. The
// caller holds the tenant's lock exclusively. t is nil if there is no tenant.
func (s *Store) DropHint(ctx context.Context, t *Tenant, h Hint) error {
	if err := s.Fence(ctx, t, h.TenantID); err != nil {
		return err
	}
	return s.deleteHint(ctx, h)
}

// Fence makes sure that the record is what was read. t is nil if there was none.
func (s *Store) Fence(ctx context.Context, t *Tenant, tenantID string) error {
	var err error
	if t != nil {
		err = s.putTenant(ctx, t)
	} else {
		err = s.forgetTenant(ctx, tenantID)
	}
	if err != nil {
		return fmt.Errorf("making sure of the tenant's record: %w", err)
	}
	return nil
}

// HintShards lists the parts of a day's hints that are not empty.
func (s *Store) HintShards(ctx context.Context, i Index, day string) ([]string, error) {
	shards, err := s.storage.List(ctx, schedulePrefix+string(i)+"/"+day+"/")
	if err != nil {
		return nil, fmt.Errorf("listing the schedule: %w", err)
	}
	for n, name := range shards {
		shards[n] = strings.TrimSuffix(name, "/")
	}
	return shards, nil
}

// HintedTenants lists the tenants in one part of a day's hints.
func (s *Store) HintedTenants(ctx context.Context, i Index, day, part string) ([]string, error) {
	ids, err := s.storage.List(ctx, schedulePrefix+string(i)+"/"+day+"/"+part+"/")
	if err != nil {
		return nil, fmt.Errorf("listing the schedule: %w", err)
	}
	return slices.DeleteFunc(ids, func(id string) bool { return strings.HasSuffix(id, "/") }), nil
}

// CountHints returns how many tenants lie under a day of an index, as far as the
// index tells.
func (s *Store) CountHints(ctx context.Context, i Index, day string) (int, error) {
	shards, err := s.HintShards(ctx, i, day)
	if err != nil {
		return 0, err
	}
	n := 0
	for _, part := range shards {
		ids, err := s.HintedTenants(ctx, i, day, part)
		if err != nil {
			return 0, err
		}
		n += len(ids)
	}
	return n, nil
}

// floors are the days before which an index has no hints, so that a tick need
// not look for them.
type floors struct {
	// lock is held shared from looking at a floor until the hint is written, and
	// exclusively from finding a day empty until the floor is raised.
	lock sync.RWMutex

	mu sync.Mutex
	// known is what is stored. It is nil before the first use, and after a write
	// of it that failed: then it is written again before it is believed, since
	// the failed write may have taken effect behind a stale cache.
	known map[Index]string
}

// read loads the floors. f.mu is held.
func (f *floors) read(ctx context.Context, s *Store) error {
	if f.known != nil {
		return nil
	}
	stored := map[Index]string{}
	found, err := s.getJSON(ctx, floorsKey, &stored)
	if err != nil {
		return err
	}
	if found {
		if err := s.putJSON(ctx, floorsKey, stored); err != nil {
			return err
		}
	}
	f.known = stored
	return nil
}

func (f *floors) write(ctx context.Context, s *Store, i Index, day string) error {
	next := maps.Clone(f.known)
	next[i] = day
	if err := s.putJSON(ctx, floorsKey, next); err != nil {
		f.known = nil
		return err
	}
	f.known = next
	return nil
}

// lower makes sure that the floor is not above a hint that is to be written.
func (f *floors) lower(ctx context.Context, s *Store, h Hint) error {
	if h.Day == AnyDay {
		return nil
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := f.read(ctx, s); err != nil {
		return err
	}
	if floor := f.known[h.Index]; floor != "" && floor <= h.Day {
		return nil
	}
	return f.write(ctx, s, h.Index, h.Day)
}

// Floor returns the first day on which an index may have hints, empty if it has
// none at all.
func (s *Store) Floor(ctx context.Context, i Index) (string, error) {
	s.floors.mu.Lock()
	defer s.floors.mu.Unlock()
	if err := s.floors.read(ctx, s); err != nil {
		return "", err
	}
	return s.floors.known[i], nil
}

// RaiseFloor raises the floor to the day after an empty one, if that is where
// the floor is and the day is empty still.
func (s *Store) RaiseFloor(ctx context.Context, i Index, empty string) error {
	s.floors.lock.Lock()
	defer s.floors.lock.Unlock()
	s.floors.mu.Lock()
	defer s.floors.mu.Unlock()
	if err := s.floors.read(ctx, s); err != nil {
		return err
	}
	if s.floors.known[i] != empty {
		return nil
	}
	shards, err := s.HintShards(ctx, i, empty)
	if err != nil {
		return err
	}
	if len(shards) > 0 {
		return nil
	}
	return s.floors.write(ctx, s, i, NextDay(empty))
}

// NextDay returns the day after.
func NextDay(day string) string {
	t, err := time.Parse(dayFormat, day)
	if err != nil {
		return day
	}
	return DayOf(t.AddDate(0, 0, 1))
}
