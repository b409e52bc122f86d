// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package kekrotation

import (
	"context"
	"errors"

	"golang.org/x/sync/errgroup"

	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/jobs"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/keystore"
)

// tenantsInFlight bounds the tenants whose keys are moved to another KEK at once.
// Each also takes a place among the pages in flight, which yield to requests.
const tenantsInFlight = 8

// Drive works on the rotation of the KEK in the background, if one is unfinished,
// until it has ended. If it is being worked on, the job runs once more afterwards.
func (e *Engine) Drive() {
	e.jobs.Run(jobs.Job{
		ID: "kek", FailureMessage: "a step of the rotation of the key-encryption key failed",
		Step: func(ctx context.Context) (done, progressed bool, err error) {
			progressed, err = e.step(ctx)
			if errors.Is(err, keystore.ErrKEKChanged) {
				return false, true, nil // not a fault: the record is not what the run works for
			}
			return err == nil, progressed, err
		},
	})
}

// step goes on with the rotation of the KEK, to its end. progressed says that it
// moved some keys.
func (e *Engine) step(ctx context.Context) (progressed bool, err error) {
	run, err := e.Recover(ctx)
	if err != nil || run == nil {
		return false, err
	}
	for {
		ids, more, err := run.Tenants(ctx)
		if err != nil {
			return progressed, err
		}
		if more {
			if err := e.rewrapTenants(ctx, run, ids); err != nil {
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
			e.log.Info("rotation of the key-encryption key ended", "kek_id", run.KEKID(), "status", string(ended.Phase),
				"tenants", ended.Tenants, "keys", ended.Keys, "keys_failed", ended.Failed,
				"took", ended.EndedAt.Sub(ended.StartedAt).String())
			return true, nil
		}
	}
}

// rewrapTenants moves the keys of some tenants, as many at once as there are
// places. It returns when it has let go of all of them.
func (e *Engine) rewrapTenants(ctx context.Context, run *Run, ids []string) error {
	g, inFlight := errgroup.WithContext(ctx)
	g.SetLimit(tenantsInFlight)
	for _, id := range ids {
		if e.pages.Acquire(inFlight) != nil {
			break // one has failed, or the engine stops
		}
		g.Go(func() error {
			defer e.pages.Release()
			if err := run.Rewrap(inFlight, id); err != nil {
				return err
			}
			return run.NoteProgress(inFlight)
		})
	}
	return errors.Join(g.Wait(), ctx.Err())
}
