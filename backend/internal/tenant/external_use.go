// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package tenant

import (
	"context"
	"time"
)

// Day is a day in UTC, as 2006-01-02, so that days compare as texts do. The empty Day is
// before all others.
type Day string

// DayOf returns the day of a time.
func DayOf(t time.Time) Day { return Day(t.UTC().Format(time.DateOnly)) }

// ExternalUse is the day on which each version's external key was used last, by key ID.
// It describes, and decides nothing.
type ExternalUse map[string]Day

// ExternalUse reads what was last noted for t.
func (s *Store) ExternalUse(ctx context.Context, t *Record) (ExternalUse, error) {
	var stored []usedOn
	_, err := s.mount.GetJSON(ctx, externalUseKey(t.Incarnation), &stored)
	used := make(ExternalUse, len(stored))
	for _, u := range stored {
		used[u.KeyID] = u.Day
	}
	return used, err
}

// usedOn is when a version's external key was used last, as it is stored.
type usedOn struct {
	KeyID string `json:"key_id"`
	Day   Day    `json:"day"`
}

// PutExternalUse notes when the keys of t's versions were used. The caller holds the tenant's lock
// and has read t under it, so that nothing is written for a tenant that is shredded.
func (s *Store) PutExternalUse(ctx context.Context, t *Record, used ExternalUse) error {
	var stored []usedOn
	for i := range t.Keys.Versions {
		keyID := t.Keys.Versions[i].KeyID
		if day, known := used[keyID]; known {
			stored = append(stored, usedOn{keyID, day})
		}
	}
	return s.mount.PutJSON(ctx, externalUseKey(t.Incarnation), stored)
}

// DeleteExternalUse deletes what was noted for an incarnation that is no more.
func (s *Store) DeleteExternalUse(ctx context.Context, incarnation string) error {
	return s.mount.Delete(ctx, externalUseKey(incarnation))
}
