// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package tenant

import (
	"time"

	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/actor"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/keyring"
)

// Holder is a place that keeps ciphertexts of a tenant: a table, a bucket. It is part of
// the tenant's record, since what holders report decides about keys.
type Holder struct {
	Name        string `json:"name"`
	Description string `json:"description,omitempty"`
	// BackupsKept is how long backups of the place are kept.
	BackupsKept time.Duration `json:"backups_kept,omitempty"`

	// Oldest, Counts, ReportedAt and ReportedBy are of the latest report. Oldest is 0
	// until there is one. Counts is never changed in place.
	Oldest     int           `json:"oldest_version,omitempty"`
	Counts     map[int]int64 `json:"counts,omitempty"`
	ReportedAt time.Time     `json:"reported_at,omitzero"`
	ReportedBy actor.Actor   `json:"reported_by,omitzero"`

	// GoneBelow says that a scan, which began at ScanStartedAt, found nothing of versions
	// below it. This decides; 0: nothing is known to be gone.
	GoneBelow     int       `json:"gone_below,omitempty"`
	ScanStartedAt time.Time `json:"scan_started_at,omitzero"`
	// Scans are the latest times that were answered for the start of a scan. They are
	// never changed in place.
	Scans []time.Time `json:"scans,omitempty"`
}

// Holder returns the holder of that name, nil if there is none.
func (t *Record) Holder(name string) *Holder {
	for i := range t.Holders {
		if t.Holders[i].Name == name {
			return &t.Holders[i]
		}
	}
	return nil
}

// ExternalKeyEnds returns when the external key of a version is to be destroyed because
// no holder keeps anything of it; zero: it is not, as things are. The page key goes first.
// A version that an unfinished rotation, or one that may be retried, could make the active
// one again keeps its key.
func (t *Record) ExternalKeyEnds(v *keyring.Version) time.Time {
	if v.State != keyring.Deactivated || !v.PageKeyDestroyed || t.Rotation != nil {
		return time.Time{}
	}
	if last := t.Last; last != nil && last.Phase == Failed && (last.From == v.Number || last.To == v.Number) {
		return time.Time{}
	}
	return v.Gone.DestroyAfter
}

// UsedThoughGone returns a version of which something was opened, or refused, after every
// holder had reported it gone, nil if there is none.
func (t *Record) UsedThoughGone() *keyring.Version {
	if t.State != Active {
		return nil
	}
	return t.Keys.Match(func(v *keyring.Version) bool { return !v.Gone.TriedAt.IsZero() })
}

// StandStill puts the end of external keys off by the time for which a tenant was being
// deleted: nobody could use or report anything.
func (t *Record) StandStill(d time.Duration) {
	for i := range t.Keys.Versions {
		if g := &t.Keys.Versions[i].Gone; d > 0 && !g.At.IsZero() {
			g.At, g.DestroyAfter = g.At.Add(d), g.DestroyAfter.Add(d)
		}
	}
}
