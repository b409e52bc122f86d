// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package holders

import (
	"time"

	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/keyring"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/settings"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/tenant"
)

// settle brings the record up to date with what its holders report: which versions are
// gone, and when their external keys are to be destroyed. A date is never brought forward.
// While the configuration cannot be read, nothing more is gone.
func settle(t *tenant.Record, c settings.Config, now time.Time) {
	for i := range t.Keys.Versions {
		v := &t.Keys.Versions[i]
		switch {
		case v.ExternalKeyEnds || v.State == keyring.Destroyed:
		case !isGone(t, v, c):
			v.Gone = keyring.Gone{}
		case v.Gone.At.IsZero() && c.Unreadable:
		case v.Gone.At.IsZero():
			v.Gone.At = now
			fallthrough
		default:
			v.Gone.DestroyAfter = later(v.Gone.DestroyAfter, v.Gone.At.Add(wait(t, c, now)))
		}
	}
}

// isGone reports whether every holder has reported that it keeps nothing of a version.
func isGone(t *tenant.Record, v *keyring.Version, c settings.Config) bool {
	if !t.FollowHolders || len(t.Holders) == 0 || v.State != keyring.Deactivated {
		return false
	}
	counts := c.LeasesOver(v.ActivatedAt, v.DeactivatedAt)
	for i := range t.Holders {
		if h := &t.Holders[i]; v.Number >= h.GoneBelow || h.ScanStartedAt.Before(counts) {
			return false
		}
	}
	return true
}

// wait is how long an external key is kept after its version is gone: the retention, and
// at least the least deletion window, plus the time for which some holder keeps backups.
func wait(t *tenant.Record, c settings.Config, now time.Time) time.Duration {
	least, _ := c.MinDeletion(now)
	var backups time.Duration
	for i := range t.Holders {
		backups = max(backups, t.Holders[i].BackupsKept)
	}
	return max(c.RetiredKeyRetention, least) + backups
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}
