// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package backend

import (
	"errors"

	"golang.org/x/sync/errgroup"

	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/kekrotation"
)

// tenantsInFlight bounds the tenants whose keys are moved to another KEK at once.
// Each also takes a place in the pool, which yields to requests.
const tenantsInFlight = 8

// carryOutKEK works on the rotation of the mount's KEK, if one is unfinished,
// until it has ended. If that is being done, it is looked at once more afterwards.
func (b *backend) carryOutKEK() { b.workers.begin("kek", b.rotateKEKToTheEnd) }

// rotateKEKToTheEnd resumes the rotation of the KEK as often as it takes.
func (b *backend) rotateKEKToTheEnd() {
	for pause := firstBackoff; ; pause = min(2*pause, maxBackoff) {
		progressed, err := b.resumeKEK()
		if err == nil || b.workers.ctx.Err() != nil {
			return
		}
		if progressed {
			pause = firstBackoff
		}
		if kekrotation.Overtaken(err) {
			continue // not a fault
		}
		if !b.workers.again(b.Logger(), "rotation of the key-encryption key met trouble", err, pause) {
			return
		}
	}
}

// resumeKEK goes on with the rotation of the KEK, to its end; progressed says
// that it got further.
func (b *backend) resumeKEK() (progressed bool, err error) {
	ctx := b.workers.ctx
	run, err := b.kek.Recover(ctx)
	if err != nil || run == nil {
		return false, err
	}
	for {
		ids, more, err := run.Tenants(ctx)
		if err != nil {
			return progressed, err
		}
		if more {
			if err := b.rewrapTenants(run, ids); err != nil {
				return progressed, err
			}
			run.Next()
			progressed = true
			continue
		}
		ended, err := run.Finish(ctx)
		if err != nil {
			return false, err // however often the tenants are gone through
		}
		if ended != nil {
			b.Logger().Info("rotation of the key-encryption key ended", "kek_id", run.KEKID(), "status", string(ended.Phase),
				"tenants", ended.Tenants, "keys", ended.Keys, "keys_failed", ended.Failed,
				"took", ended.EndedAt.Sub(ended.StartedAt).String())
			return true, nil
		}
	}
}

// rewrapTenants moves the keys of some tenants, as many at once as there are
// places. It returns when it has let go of all of them.
func (b *backend) rewrapTenants(run *kekrotation.Run, ids []string) error {
	g, ctx := errgroup.WithContext(b.workers.ctx)
	g.SetLimit(tenantsInFlight)
	for _, id := range ids {
		if b.workers.pool.acquire(ctx) != nil {
			break // one has failed, or the engine stops
		}
		g.Go(func() error {
			defer b.workers.pool.release()
			if err := run.Rewrap(ctx, id); err != nil {
				return err
			}
			return run.NoteProgress(ctx)
		})
	}
	return errors.Join(g.Wait(), b.workers.ctx.Err())
}
