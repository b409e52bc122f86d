// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package rotation

import (
	"cmp"
	"context"
	"maps"
	"slices"

	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/keyring"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/store"
)

// maxFailures is how many failures a rotation lists.
const maxFailures = 100

// Finish ends the rotation if under the tenant's exclusive lock a List shows no
// page that the run has not seen on the target version; done is false if it
// does. After a retryable error it is called again.
//
// Key entries go first and the record says so afterwards: if the process dies
// between, Resume does both again.
func (r *Run) Finish(ctx context.Context) (done bool, err error) {
	defer r.e.store.Exclusive(r.intent.TenantID)()
	t, err := r.tenant(ctx)
	if err != nil {
		return false, err
	}
	pending, err := r.unseen(ctx, t)
	if err != nil || len(pending) > 0 {
		return false, err
	}
	next := t.Clone()
	switch {
	case len(r.failures) > 0:
		err = r.end(ctx, next, store.Failed)
	case r.phase == store.RollingBack:
		err = r.rollBack(ctx, next)
	default:
		err = r.retire(ctx, next)
	}
	return err == nil, err
}

// retire destroys the keys that no page is on any more. From the first Put on
// the rotation cannot be cancelled.
func (r *Run) retire(ctx context.Context, next *store.Tenant) error {
	if next.Rotation.Phase != store.Retiring {
		next.Rotation.Phase = store.Retiring
		if err := r.e.store.PutTenant(ctx, next); err != nil {
			return err
		}
		r.phase = store.Retiring
		next = next.Clone() // what is stored is not what is still to be stored
	}
	// Every page is on the target version, so this holds for all other keys:
	// those too that earlier rotations kept because a page did not open.
	var old []keyring.Version
	for _, v := range next.Keys.Versions {
		if v.Number != r.target && v.State != keyring.Destroyed {
			old = append(old, v)
		}
	}
	for _, v := range old {
		if err := r.destroy(ctx, next, v); err != nil {
			return err
		}
	}
	return r.end(ctx, next, store.Completed)
}

// rollBack destroys the new key, which no page is on any more.
func (r *Run) rollBack(ctx context.Context, next *store.Tenant) error {
	if v := next.Keys.Find(next.Rotation.To); v != nil && v.State != keyring.Destroyed {
		if err := r.destroy(ctx, next, *v); err != nil {
			return err
		}
	}
	return r.end(ctx, next, store.RolledBack)
}

func (r *Run) destroy(ctx context.Context, next *store.Tenant, v keyring.Version) error {
	if err := r.e.store.DestroyKey(ctx, next.Incarnation, v.KeyID); err != nil {
		return err
	}
	next.Keys.Destroy(v.Number, r.e.now())
	return nil
}

// end stores that the rotation is over, then its history, then deletes its
// progress and its intent. All under the exclusive lock, so that who reads that
// a rotation is over finds nothing of it unfinished.
func (r *Run) end(ctx context.Context, next *store.Tenant, how store.Phase) error {
	if err := r.filePrevious(ctx, next); err != nil {
		return err
	}
	ended := *next.Rotation
	ended.Phase = how
	ended.EndedAt = r.e.now()
	ended.UpdatedAt = ended.EndedAt
	if err := r.account(ctx, next, &ended); err != nil {
		return err
	}
	next.Rotation, next.Last = nil, &ended
	if err := r.e.store.PutTenant(ctx, next); err != nil {
		return err
	}
	r.e.ended(r, &ended)
	if r.noted.After(r.began) {
		if err := r.e.store.DeleteProgress(ctx, next); err != nil {
			return err
		}
	}
	return r.e.close(ctx, next, r.intent)
}

// account settles the figures: what is no longer on other versions has been
// rotated, whoever moved or deleted it.
func (r *Run) account(ctx context.Context, t *store.Tenant, ended *store.Rotation) error {
	switch ended.Phase {
	case store.Completed:
		ended.Rotated = ended.ToRotate
	case store.RolledBack:
		ended.Rotated = store.Counts{}
	default:
		usage, err := r.e.store.Usage(ctx, t)
		if err != nil {
			return err
		}
		ended.Rotated = ended.ToRotate.Less(usage.Beside(ended.To))
	}
	ended.Failed = r.failed
	ended.Failures = slices.SortedFunc(maps.Values(r.failures), func(a, b store.Failure) int {
		return cmp.Compare(a.Page, b.Page)
	})
	ended.Failures = ended.Failures[:min(len(ended.Failures), maxFailures)]
	return nil
}

// filePrevious makes sure that the rotation that ended before this one is in
// the history, since the record is about to forget it.
func (r *Run) filePrevious(ctx context.Context, t *store.Tenant) error {
	if t.Last == nil {
		return nil
	}
	filed, err := r.e.store.History(ctx, t, t.Last.To)
	if err != nil || filed != nil {
		return err
	}
	return r.e.store.PutHistory(ctx, t, t.Last)
}
