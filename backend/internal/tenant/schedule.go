// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package tenant

import (
	"context"
	"slices"
	"strings"
	"time"

	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/settings"
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
func (t *Record) Hints() []Hint {
	var hints []Hint
	add := func(i Index, day string) {
		if h := (Hint{i, day, t.ID}); !slices.Contains(hints, h) {
			hints = append(hints, h)
		}
	}
	if t.State != Active {
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
	due, own := t.ownDueDate()
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
func (t *Record) Wants(h Hint) bool { return slices.Contains(t.Hints(), h) }

// ownDueDate returns when t is due if it does not simply follow the
// organization's interval.
func (t *Record) ownDueDate() (due time.Time, own bool) {
	switch {
	case !t.RotateAfter.IsZero():
		return t.RotateAfter, true
	case t.RotationInterval != "":
		return t.LastRotatedAt().Add(settings.IntervalLength(t.RotationInterval)), true
	}
	return time.Time{}, false
}

// DueDate returns when the schedule is to rotate t's key.
func (t *Record) DueDate(s settings.Rotation) time.Time {
	if due, own := t.ownDueDate(); own {
		return due
	}
	return t.Expires(s)
}

// Interval is how old t's key may get.
func (t *Record) Interval(s settings.Rotation) time.Duration {
	if t.RotationInterval != "" {
		return settings.IntervalLength(t.RotationInterval)
	}
	return settings.IntervalLength(s.RotationInterval)
}

// Expires is when t's key has the age at which it is to be rotated, whatever
// else has put its rotation forward or off.
func (t *Record) Expires(s settings.Rotation) time.Time { return t.LastRotatedAt().Add(t.Interval(s)) }

// HintShards lists the parts of a day's hints that are not empty.
func (s *Store) HintShards(ctx context.Context, i Index, day string) ([]string, error) {
	shards, err := s.mount.List(ctx, schedulePrefix+string(i)+"/"+day+"/")
	if err != nil {
		return nil, err
	}
	for n, name := range shards {
		shards[n] = strings.TrimSuffix(name, "/")
	}
	return shards, nil
}

// HintedTenants lists the tenants in one part of a day's hints.
func (s *Store) HintedTenants(ctx context.Context, i Index, day, part string) ([]string, error) {
	ids, err := s.mount.List(ctx, schedulePrefix+string(i)+"/"+day+"/"+part+"/")
	if err != nil {
		return nil, err
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

// NextDay returns the day after.
func NextDay(day string) string {
	t, err := time.Parse(dayFormat, day)
	if err != nil {
		return day
	}
	return DayOf(t.AddDate(0, 0, 1))
}
