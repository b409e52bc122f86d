// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package holders

import (
	"context"
	"errors"
	"time"

	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/keyring"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/tenant"
)

// triedEvery is how often a use of a version that is gone is noted. The key is kept for so
// much longer, so it is kept for a retention after every use.
const triedEvery = time.Minute

// NotesTry reports whether a use of a version is to be noted by [Engine.Tried].
func NotesTry(v *keyring.Version, now time.Time) bool {
	return v.State == keyring.Deactivated && !v.ExternalKeyEnds && !v.Gone.At.IsZero() &&
		(v.Gone.TriedAt.IsZero() || now.Before(v.Gone.TriedAt) || now.Sub(v.Gone.TriedAt) >= triedEvery)
}

// Tried lets the retention of versions begin anew of which something was opened, or was
// refused, though every holder has reported them gone. It is called before that is
// answered. A version that is not gone, or whose key ends already, stays as it is.
func (e *Engine) Tried(ctx context.Context, tenantID string, versions []int) error {
	config, err := e.settings.Config(ctx)
	if err != nil {
		return err
	}
	now := e.now()
	var noted []int
	_, err = e.tenants.Update(ctx, tenantID, func(next *tenant.Record) error {
		if err := next.Usable(); err != nil {
			return err
		}
		kept := wait(next, config, now)
		if kept > 0 {
			kept += triedEvery
		}
		for _, number := range versions {
			v := next.Keys.Find(number)
			if v == nil || !NotesTry(v, now) {
				continue
			}
			v.Gone.TriedAt = now
			v.Gone.DestroyAfter = later(v.Gone.DestroyAfter, now.Add(kept))
			noted = append(noted, number)
		}
		if len(noted) == 0 {
			return tenant.ErrUnchanged
		}
		return nil
	})
	if errors.Is(err, tenant.ErrNotFound) || errors.Is(err, tenant.ErrDeleting) {
		return nil // its time stands still
	}
	for _, number := range noted {
		e.log.Warn("an external key is kept for another retention: it was used after all holders had reported its version gone",
			"tenant_id", tenantID, "key_version", number)
	}
	return err
}
