// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package kekrotation

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"sync"
	"time"

	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/keystore"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/storage"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/tenant"
)

// maxFailures bounds the failures that a rotation lists.
const maxFailures = 100

// settleWithin bounds how long a rotation waits for the creation of a tenant whose
// outcome is not known. Recovery looks at such a creation every minute.
const settleWithin = 10 * time.Minute

var errUnsettled = errors.New("a tenant is listed, but its record does not show")

// Run carries out the unfinished rotation. A pass goes through the tenants part by
// part: Tenants, Rewrap for each of them, then Next. Rewrap is safe for concurrent
// use. After an error a part is begun again.
type Run struct {
	e     *Engine
	kekID string
	began time.Time

	mu     sync.Mutex
	passes int   // that have ended
	shard  int   // where the pass is
	pass   tally // what it has found before that
	part   tally // what it finds there
	shown  keystore.KEKProgress
	noted  time.Time
}

// tally counts what a part or a pass has found and done.
type tally struct {
	tenants, keys, changed, failed, unsettled int
	failures                                  []keystore.KeyFailure // the first
}

func (t *tally) add(u tally) {
	t.tenants += u.tenants
	t.keys += u.keys
	t.changed += u.changed
	t.failed += u.failed
	t.unsettled += u.unsettled
	t.failures = append(t.failures, u.failures...)
	t.failures = t.failures[:min(len(t.failures), maxFailures)]
}

// KEKID returns the KEK to which keys are moved.
func (r *Run) KEKID() string { return r.kekID }

// Tenants lists the tenants of the part that the pass has come to; more is false
// if it has been through all parts, and is to be finished.
func (r *Run) Tenants(ctx context.Context) (ids []string, more bool, err error) {
	r.mu.Lock()
	shard := r.shard
	r.part = tally{}
	r.mu.Unlock()
	if shard == tenant.Shards {
		return nil, false, nil
	}
	ids, err = r.e.tenants.InShard(ctx, shard)
	if storage.IsDamaged(err) {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.part = tally{failed: 1, failures: []keystore.KeyFailure{{
			Reason: fmt.Sprintf("part %02x of %d of the tenants cannot be listed", shard, tenant.Shards),
		}}}
		return nil, true, nil
	}
	return ids, true, err
}

// Rewrap moves the keys of one tenant.
func (r *Run) Rewrap(ctx context.Context, tenantID string) error {
	did, err := r.e.RewrapKeys(ctx, tenantID, r.kekID)
	if err != nil {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	one := tally{tenants: 1, keys: did.Keys, changed: did.Changed, failed: len(did.Failures), failures: did.Failures}
	if did.Unsettled {
		one.unsettled = 1
	}
	r.part.add(one)
	return nil
}

// Next moves to the next part.
func (r *Run) Next() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.pass.add(r.part)
	r.part = tally{}
	r.shard++
}

// Finish is called after the last part. If the pass has changed anything there is
// to be another, and ended is nil: what the last one has seen is what counts. It is nil,
// too, while older KEKs are left to be destroyed: then Finish is to be called again.
func (r *Run) Finish(ctx context.Context) (ended *keystore.KEKRotation, err error) {
	found := r.found()
	if found.changed > 0 {
		r.again()
		return nil, nil
	}
	if found.unsettled > 0 && r.e.now().Sub(r.began) < settleWithin {
		r.again()
		return nil, errUnsettled
	}
	ended, err = r.e.keys.EndKEKRotation(ctx, r.kekID, func(k *keystore.KEKRotation) {
		k.Phase, k.EndedAt = keystore.KEKCompleted, r.e.now()
		if found.failed > 0 {
			k.Phase = keystore.KEKFailed
		}
		k.Tenants, k.Keys, k.Failed, k.Failures = found.tenants, found.keys, found.failed, found.failures
	})
	if err == nil && ended != nil {
		r.e.setLive(nil)
	}
	return ended, err
}

func (r *Run) found() tally {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.pass
}

func (r *Run) again() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.passes++
	r.shard, r.pass, r.part = 0, tally{}, tally{}
}

// progress returns how far the rotation is. It never decreases, although a pass over
// all tenants begins anew.
func (r *Run) progress() keystore.KEKProgress {
	r.mu.Lock()
	defer r.mu.Unlock()
	now := r.pass
	now.add(r.part)
	percent := 100.0
	if r.passes == 0 {
		// Tenants are spread evenly over the parts, so there is no need to count them.
		percent = math.Floor(float64(r.shard)/tenant.Shards*1000) / 10
	}
	r.shown = keystore.KEKProgress{
		KEKID:   r.kekID,
		Tenants: max(r.shown.Tenants, now.tenants),
		Keys:    max(r.shown.Keys, now.keys),
		Failed:  max(r.shown.Failed, now.failed),
		Percent: max(r.shown.Percent, percent),
		At:      r.e.now(),
	}
	return r.shown
}

func (r *Run) failures() []keystore.KeyFailure {
	r.mu.Lock()
	defer r.mu.Unlock()
	now := r.pass
	now.failures = slices.Clone(now.failures)
	now.add(r.part)
	return now.failures
}

// NoteProgress stores how far the rotation is, at most once a second.
func (r *Run) NoteProgress(ctx context.Context) error {
	now := r.e.now()
	r.mu.Lock()
	due := now.Sub(r.noted) >= time.Second
	if due {
		r.noted = now
	}
	r.mu.Unlock()
	if !due {
		return nil
	}
	return r.e.keys.PutKEKProgress(ctx, r.progress())
}
