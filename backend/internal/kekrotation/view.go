// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package kekrotation

import (
	"context"
	"errors"

	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/keystore"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/provider"
)

// ViewTenant describes the KEK that wraps a tenant's keys, and the latest move of these. It
// is the mount's, without a provider, if the tenant has none of its own. It fails with
// [tenant.ErrNotFound] or [tenant.ErrDeleting].
func (e *Engine) ViewTenant(ctx context.Context, tenantID string) (View, error) {
	t, err := e.tenants.Active(ctx, tenantID)
	if err != nil {
		return View{}, err
	}
	v := View{KEKRecord: t.OwnKEK(), Status: statusNone}
	if v.KEKID == "" {
		r, err := e.keys.KEK(ctx)
		if err != nil && !errors.Is(err, keystore.ErrNoKEK) {
			return View{}, err
		}
		if err == nil {
			v.KEKID, v.CreatedAt = r.KEKID, r.CreatedAt
		}
	} else {
		v.ProviderState = e.keys.ProviderState(&v.KEKRecord)
		v.LeaseUntil = e.keys.LeaseUntil(provider.Place{Owner: t.Owner(), KEKID: v.KEKID})
	}
	stored, err := e.keys.OwnKEKs(ctx, t.Incarnation)
	if err != nil {
		return View{}, err
	}
	for _, id := range stored {
		if id != v.KEKID {
			v.Older = append(v.Older, id)
		}
	}
	r := v.Rotation
	switch {
	case r == nil:
	case r.Unfinished():
		v.Status, v.Progress.At = statusInProgress, r.StartedAt
		v.WaitingFor = e.keys.WaitingFor(t.KEKRanges()...)
	default:
		v.Status, v.Failures = statusOf[r.Phase], r.Failures
		v.Progress = keystore.KEKProgress{Tenants: r.Tenants, Keys: r.Keys, Failed: r.Failed, Percent: 100, At: r.EndedAt}
	}
	return v, nil
}
