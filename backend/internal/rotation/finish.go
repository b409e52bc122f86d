// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package rotation

import (
	"context"
	"time"

	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/destruction"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/keyring"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/tenant"
	"github.com/vault-plugin-dek/vault-plugin-dek/evidence"
)

// Finish ends the rotation if a List, under the tenant's exclusive lock, shows no page
// that the run has not seen on the target version; done is false if it does. After a
// retryable error it is called again.
//
// Key entries are deleted first and the record says so afterwards: if the process dies
// in between, Recover leads to both again.
func (r *Run) Finish(ctx context.Context) (done bool, err error) {
	err = r.e.tenants.Hold(ctx, r.intent.TenantID, func(h *tenant.Held) error {
		t, err := r.check(h.Record())
		if err != nil {
			return err
		}
		config, err := r.e.settings.Config(ctx)
		if err != nil {
			return err
		}
		pending, err := r.unseen(ctx, t, config.RetiredKeyRetention > 0)
		if err != nil || len(pending) > 0 {
			return err
		}
		err = r.settle(ctx, h, config.RetiredKeyRetention)
		done = err == nil
		return err
	})
	return done, err
}

// settle ends the rotation, no page of which is pending: failed, rolled back or completed.
func (r *Run) settle(ctx context.Context, h *tenant.Held, retention time.Duration) error {
	switch {
	case len(r.failures) > 0:
		return r.end(ctx, h, h.Record().Clone(), tenant.Failed)
	case r.phase == tenant.RollingBack:
		return r.rollBack(ctx, h)
	default:
		return r.retire(ctx, h, retention)
	}
}

// retire destroys the keys that no page is on any more, or, if they are to be
// kept for a while, settles when they go. Before a key is destroyed one Put says
// that the rotation cannot be cancelled any more. If none is, the Put that ends
// the rotation says so as well: until then a cancel finds everything it needs.
func (r *Run) retire(ctx context.Context, h *tenant.Held, retention time.Duration) error {
	if retention == 0 && h.Record().Rotation.Phase != tenant.Retiring {
		_, err := h.Update(ctx, func(next *tenant.Record) error {
			next.Rotation.Phase = tenant.Retiring
			return nil
		})
		if err != nil {
			return err
		}
		r.phase = tenant.Retiring
	}
	// Every page is on the target version, so this holds for all other keys:
	// those too that earlier rotations kept because a page did not open.
	t := h.Record()
	next := t.Clone()
	d := r.cause(ctx, t, evidence.WhyRotation)
	destroyed := 0
	for _, v := range t.Keys.Versions {
		if v.Number == r.target || v.State == keyring.Destroyed {
			continue
		}
		if destroyed == destruction.MaxDestroyed && !v.PageKeyDestroyed {
			r.keep(next.Keys.Find(v.Number), 0) // upkeep destroys the rest
			continue
		}
		if retention > 0 && !v.PageKeyDestroyed {
			r.keep(next.Keys.Find(v.Number), retention)
			continue
		}
		if err := r.e.destruction.Destroy(ctx, next, v, d); err != nil {
			return err
		}
		destroyed++
	}
	return r.end(ctx, h, next, tenant.Completed)
}

// cause says that keys go since the run's pages have left them.
func (r *Run) cause(ctx context.Context, t *tenant.Record, why string) destruction.Cause {
	r.mu.Lock()
	defer r.mu.Unlock()
	return destruction.Cause{
		Head: r.e.headOf(t.Rotation), Why: why, Scanned: r.pagesListed,
		External: r.e.destruction.External(ctx, t.Owner()),
	}
}

// keep settles when the page key of a version is to be destroyed, unless that
// is settled already.
func (r *Run) keep(v *keyring.Version, retention time.Duration) {
	if v.DestroyAfter.IsZero() {
		v.DestroyAfter = r.e.now().Add(retention)
	}
}

// rollBack destroys the new key, which no page is on any more.
func (r *Run) rollBack(ctx context.Context, h *tenant.Held) error {
	next := h.Record().Clone()
	if v := next.Keys.Find(next.Rotation.To); v != nil && v.State != keyring.Destroyed {
		if err := r.e.destruction.Destroy(ctx, next, *v, r.cause(ctx, h.Record(), evidence.WhyRollback)); err != nil {
			return err
		}
	}
	return r.end(ctx, h, next, tenant.RolledBack)
}

// end stores that the rotation is over, and deletes its progress. It happens under the
// exclusive lock, so a reader that sees a rotation over finds nothing of it unfinished but
// its intent, which stays until the evidence log has the end: see Engine.conclude.
//
// The record describes the rotation until the next one ends. Then it goes into the history,
// before the record forgets it.
func (r *Run) end(ctx context.Context, h *tenant.Held, next *tenant.Record, how tenant.Phase) error {
	if last := h.Record().Last; last != nil {
		if err := r.e.tenants.PutHistory(ctx, next, last); err != nil {
			return err
		}
	}
	ended := *next.Rotation
	ended.Phase = how
	ended.EndedAt = r.e.now()
	ended.UpdatedAt = ended.EndedAt
	if err := r.account(ctx, next, &ended); err != nil {
		return err
	}
	if err := r.logEnd(ctx, next, &ended); err != nil {
		return err
	}
	next.End(&ended)
	if err := r.backOff(ctx, next); err != nil {
		return err
	}
	if err := h.Put(ctx, next); err != nil {
		return err
	}
	r.e.ended(r, &ended)
	r.e.counters.ended(how)
	r.mu.Lock()
	r.ended, r.endedRecord = &ended, next
	r.mu.Unlock()
	// A run before this one may have noted something, if there was time for it.
	if r.notedAt.After(r.began) || r.began.Sub(ended.StartedAt) >= noteEvery {
		return r.e.tenants.DeleteProgress(ctx, next.Incarnation)
	}
	return nil
}
