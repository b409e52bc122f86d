// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package rotation

import (
	"cmp"
	"context"
	"errors"
	"maps"
	"slices"
	"time"

	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/keyring"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/store"
)

const (
	// Backoff is how long the schedule waits after a rotation that was cancelled,
	// or failed for the first time in a row. Each further failure doubles it, up
	// to the tenant's interval or maxBackoff.
	Backoff    = 24 * time.Hour
	maxBackoff = 32 * 24 * time.Hour
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
	config, err := r.e.store.Config(ctx)
	if err != nil {
		return false, err
	}
	pending, err := r.unseen(ctx, t, config)
	if err != nil || len(pending) > 0 {
		return false, err
	}
	switch {
	case len(r.failures) > 0:
		err = r.end(ctx, t, t.Clone(), store.Failed)
	case r.phase == store.RollingBack:
		err = r.rollBack(ctx, t)
	default:
		err = r.retire(ctx, t, config)
	}
	return err == nil, err
}

// retire destroys the keys that no page is on any more, or, if they are to be
// kept for a while, settles when they go. Before a key is destroyed one Put says
// that the rotation cannot be cancelled any more. If none is, the Put that ends
// the rotation says so as well: until then a cancel finds everything it needs.
func (r *Run) retire(ctx context.Context, t *store.Tenant, config store.Config) error {
	if config.RetiredKeyRetention == 0 && t.Rotation.Phase != store.Retiring {
		next := t.Clone()
		next.Rotation.Phase = store.Retiring
		if err := r.e.store.Commit(ctx, t, next); err != nil {
			return err
		}
		r.phase, t = store.Retiring, next
	}
	// Every page is on the target version, so this holds for all other keys:
	// those too that earlier rotations kept because a page did not open.
	next := t.Clone()
	for _, v := range t.Keys.Versions {
		if v.Number == r.target || v.State == keyring.Destroyed {
			continue
		}
		if config.RetiredKeyRetention > 0 && !v.PageKeyDestroyed {
			r.keep(next.Keys.Find(v.Number), config.RetiredKeyRetention)
			continue
		}
		if err := r.e.destroy(ctx, next, v); err != nil {
			return err
		}
	}
	return r.end(ctx, t, next, store.Completed)
}

// keep settles when the page key of a version is to be destroyed, unless that
// is settled already.
func (r *Run) keep(v *keyring.Version, retention time.Duration) {
	if v.DestroyAfter.IsZero() {
		v.DestroyAfter = r.e.now().Add(retention)
	}
}

// DestroyRetired destroys the page keys of t whose time has come, once a scan
// shows that no page is on them, and returns how many. A key that a page is on
// after all is kept, and looked at again a day later.
func (e *Engine) DestroyRetired(ctx context.Context, tenantID string) (int, error) {
	t, err := e.store.Tenant(ctx, tenantID)
	if err != nil {
		return 0, err
	}
	// Reading every page takes its time: before the lock. Under it only pages
	// that came since are read.
	scan := store.NewScan(e.store, t)
	err = scan.Run(ctx)
	if errors.Is(err, store.ErrPageDamaged) {
		return 0, errors.Join(err, e.postpone(ctx, tenantID))
	}
	if err != nil {
		return 0, err
	}
	defer e.store.Exclusive(tenantID)()
	t, err = e.store.Tenant(ctx, tenantID)
	if err != nil {
		return 0, err
	}
	if t.Incarnation != scan.Incarnation() || t.State != store.TenantActive || t.Rotation != nil {
		return 0, nil // its own end looks at the keys
	}
	if err := scan.Run(ctx); err != nil {
		return 0, err
	}
	next, destroyed := t.Clone(), 0
	for _, v := range t.Keys.Versions {
		due := !v.DestroyAfter.IsZero() && !e.now().Before(v.DestroyAfter)
		switch {
		case !due || v.State != keyring.Deactivated:
			continue
		case scan.Pages(v.Number) > 0:
			next.Keys.Find(v.Number).DestroyAfter = e.now().Add(Backoff)
			continue
		}
		if err := e.destroy(ctx, next, v); err != nil {
			return 0, err
		}
		destroyed++
	}
	return destroyed, e.store.Commit(ctx, t, next)
}

// postpone lets retired keys of t be looked at a day later.
func (e *Engine) postpone(ctx context.Context, tenantID string) error {
	defer e.store.Exclusive(tenantID)()
	t, err := e.store.ActiveTenant(ctx, tenantID)
	if err != nil {
		return err
	}
	next := t.Clone()
	for i := range next.Keys.Versions {
		if v := &next.Keys.Versions[i]; !v.DestroyAfter.IsZero() && !e.now().Before(v.DestroyAfter) {
			v.DestroyAfter = e.now().Add(Backoff)
		}
	}
	return e.store.Commit(ctx, t, next)
}

// rollBack destroys the new key, which no page is on any more.
func (r *Run) rollBack(ctx context.Context, t *store.Tenant) error {
	next := t.Clone()
	if v := next.Keys.Find(next.Rotation.To); v != nil && v.State != keyring.Destroyed {
		if err := r.e.destroy(ctx, next, *v); err != nil {
			return err
		}
	}
	return r.end(ctx, t, next, store.RolledBack)
}

// destroy deletes a page key and notes it in next. If something has left the
// engine under the version, its external key stays, and so does the version:
// storage tells, since the key's existence is what external use means.
func (e *Engine) destroy(ctx context.Context, next *store.Tenant, v keyring.Version) error {
	external, err := e.store.ExternalUse(ctx, next)
	if err != nil {
		return err
	}
	if !v.PageKeyDestroyed {
		if err := e.store.DestroyKey(ctx, next.Incarnation, v.KeyID); err != nil {
			return err
		}
	}
	if !external[v.KeyID] {
		if err := e.store.ForgetSeals(ctx, next.Incarnation, v); err != nil {
			return err
		}
	}
	next.Keys.DestroyPageKey(v.Number, external[v.KeyID], e.now())
	return nil
}

// end stores that the rotation is over, then its history, then deletes its
// progress and its intent. All under the exclusive lock, so that who reads that
// a rotation is over finds nothing of it unfinished.
func (r *Run) end(ctx context.Context, t, next *store.Tenant, how store.Phase) error {
	if err := r.filePrevious(ctx, t); err != nil {
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
	if err := r.backOff(ctx, next); err != nil {
		return err
	}
	if err := r.e.store.Commit(ctx, t, next); err != nil {
		return err
	}
	r.e.ended(r, &ended)
	r.mu.Lock()
	r.ended = &ended
	r.mu.Unlock()
	if r.noted.After(r.began) {
		if err := r.e.store.DeleteProgress(ctx, next); err != nil {
			return err
		}
	}
	return r.e.close(ctx, next, r.intent)
}

// backOff puts the next rotation off if this one did not complete, so that the
// schedule does not start it again at once, unless one was asked for meanwhile.
func (r *Run) backOff(ctx context.Context, next *store.Tenant) error {
	failed, asked := next.Last.Phase == store.Failed, !next.RotateAfter.IsZero()
	if failed && !asked {
		next.FailedInARow++
	} else {
		next.FailedInARow = 0
	}
	if next.Last.Phase == store.Completed || asked {
		return nil
	}
	settings, err := r.e.store.RotationSettings(ctx)
	if err != nil {
		return err
	}
	wait := Backoff
	for n := 1; n < next.FailedInARow && wait < maxBackoff; n++ {
		wait *= 2
	}
	earliest := r.e.now().Add(min(wait, maxBackoff, next.Interval(settings)))
	if failed || next.Expires(settings).Before(earliest) {
		next.RotateAfter, next.RotateReason, next.RotateRequest = earliest, "", ""
	}
	return nil
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
		ended.Rotated = rotatedBy(usage, ended, r.phase == store.RollingBack)
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
	if err != nil || filed != nil && filed.EndedAt.Equal(t.Last.EndedAt) {
		return err
	}
	return r.e.store.PutHistory(ctx, t, t.Last)
}
