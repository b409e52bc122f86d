// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package schedule

import (
	"context"
	"errors"
	"time"

	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/dueindex"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/keyring"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/rotation"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/storage"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/tenant"
)

// Overview describes a tenant in a list of many: what its record says, and what the
// schedule makes of it.
type Overview struct {
	TenantID    string
	DisplayName string
	State       tenant.State

	CurrentVersion int       // 0: its keys are being destroyed
	LastRotatedAt  time.Time // zero: never
	NextRotationAt time.Time // zero: the schedule passes it over
	Overdue        bool      // as [Status] counts it
	RotationPaused bool
	KeyProvider    string // that a KEK of its own is under; empty: the mount's wraps its keys

	// RotationID and RotationStatus are of the latest rotation; empty: there was none.
	RotationID, RotationStatus string

	// Err says that the record cannot be read. Then only TenantID is set.
	Err error
}

// Overviews describes tenants, in the order of their IDs given; nil stands for one that
// is not there. A record that cannot be read keeps no other from being described, but if
// none can be read, that is an error.
func (e *Engine) Overviews(ctx context.Context, tenantIDs []string) ([]*Overview, error) {
	p, err := e.plan(ctx)
	if err != nil {
		return nil, err
	}
	all := make([]*Overview, len(tenantIDs))
	err = storage.Each(ctx, len(all), func(n int) error {
		all[n] = e.overview(ctx, p, tenantIDs[n]) // an error is its tenant's
		return nil
	})
	if err != nil {
		return nil, err
	}
	return all, noneReadable(all)
}

// noneReadable returns the error of the first, if every one has an error.
func noneReadable(all []*Overview) error {
	for _, o := range all {
		if o == nil || o.Err == nil {
			return nil
		}
	}
	if len(all) == 0 {
		return nil
	}
	return all[0].Err
}

func (e *Engine) overview(ctx context.Context, p dueindex.Plan, tenantID string) *Overview {
	t, err := e.tenants.Peek(ctx, tenantID)
	if errors.Is(err, tenant.ErrNotFound) {
		return nil
	}
	if err != nil {
		return &Overview{TenantID: tenantID, Err: err}
	}
	return overviewOf(p, t)
}

func overviewOf(p dueindex.Plan, t *tenant.Record) *Overview {
	o := &Overview{
		TenantID: t.ID, DisplayName: t.DisplayName, State: t.State, RotationPaused: t.RotationPaused, KeyProvider: t.KeyProvider(),
		NextRotationAt: t.NextRotation(p.Settings), Overdue: p.Overdue(t),
	}
	if t.State == tenant.Shredding {
		o.State = tenant.Deleting // to callers there is one way to go
	}
	if v := t.Keys.Match(func(v *keyring.Version) bool { return v.State == keyring.Active }); v != nil {
		o.CurrentVersion, o.LastRotatedAt = v.Number, t.ChangedAt()
	}
	latest := t.Rotation
	if latest == nil {
		latest = t.Last
	}
	if latest != nil {
		o.RotationID, o.RotationStatus = latest.ID, rotation.Status(latest)
	}
	return o
}
