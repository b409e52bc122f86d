// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package rotation

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/intents"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/itemstore"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/jobs"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/tenant"
)

// Drive works on a rotation in the background until it has ended, from its present
// phase, or settles a creation. If it is being worked on, the job runs once more
// afterwards.
func (e *Engine) Drive(i intents.Intent) { e.drive(i, nil) }

// waitingForLog is how many rotations that have ended, and wait only until the evidence log
// has that, do not count as worked on.
const waitingForLog = 256

// drive is Drive, and calls then, if it is not nil, when the rotation has ended or is not
// worked on any more.
func (e *Engine) drive(i intents.Intent, then func()) {
	if then == nil {
		then = func() {}
	}
	over := sync.OnceFunc(then)
	log := e.log.With("tenant_id", i.TenantID, "rotation_id", i.RotationID)
	e.jobs.Run(jobs.Job{
		ID: i.JobID(), Log: log, FailureMessage: "a step of a rotation failed", Then: over,
		Step: func(ctx context.Context) (done, progressed bool, err error) {
			done, progressed, err = e.step(ctx, i, log, over)
			switch {
			case errors.Is(err, ErrPaused):
				return true, false, nil // resuming drives it again
			case errors.Is(err, errRecordChanged):
				return false, true, nil // not a fault: for example, it was cancelled
			case isDamaged(err):
				e.leave(i, err, log)
				return true, false, nil // the tick drives it again
			case err == nil:
				e.goesOn(i)
			}
			return done, progressed, err
		},
	})
}

// step recovers a rotation and goes on with it. done says that nothing is left to do,
// and progressed that some pages were moved. It calls over once the rotation has ended, unless
// it has failed.
func (e *Engine) step(ctx context.Context, i intents.Intent, log hclog.Logger, over func()) (done, progressed bool, err error) {
	run, err := e.Recover(ctx, i)
	if err != nil {
		return false, false, err
	}
	if run == nil {
		log.Debug("nothing is left to do")
		return true, false, nil
	}
	if err := run.Count(ctx); err != nil {
		return false, false, err
	}
	if err := run.OpenKeys(ctx); err != nil {
		return false, false, err
	}
	log.Debug("rotation in progress")
	progressed, err = e.sweep(ctx, run)
	if err != nil {
		return false, progressed, err
	}
	defer e.waiting.Add(-1)
	failed := run.Ended().Phase == tenant.Failed // the schedule would retry it by this very job
	if e.waiting.Add(1) <= waitingForLog && !failed {
		over()
	}
	if err := e.conclude(ctx, run.endedRecord, run.intent); err != nil {
		return false, true, err
	}
	how := run.Ended()
	log.Info("rotation ended", "status", how.Phase, "items", how.Rotated.Total(),
		"items_failed", how.Failed, "took", how.EndedAt.Sub(how.StartedAt).String())
	return true, true, nil
}

// sweep moves pages and finishes the rotation, until it has ended. While a tenant has many
// pages, it lists them once more before the List under the lock that decides.
func (e *Engine) sweep(ctx context.Context, run *Run) (progressed bool, err error) {
	for {
		pending, err := run.Pending(ctx)
		if err != nil {
			return progressed, err
		}
		if len(pending) > 0 {
			if !progressed && !run.isSmall() {
				run.awaitStart(ctx)
			}
			if err := e.move(ctx, run, pending); err != nil {
				return progressed, err
			}
			progressed = true
			if !run.isSmall() {
				continue
			}
		}
		if done, err := run.Finish(ctx); done || err != nil {
			return progressed, err
		}
	}
}

// awaitStart waits until the evidence log has the start, but no longer than a second. The
// caller of dek/rotate waits for that, and it takes longer behind the writes of many pages.
func (r *Run) awaitStart(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	if t, err := r.read(ctx); err == nil && t.Rotation.Trigger == tenant.TriggerManual {
		_ = r.e.tenants.AwaitLogged(ctx, t) // the rotation's end waits for it in any case
	}
}

// move moves pages, many in flight. It asks for one place at a time and places are
// given in turn: so a tenant with many pages does not hold up one with few. It
// returns when every page that it began has been written.
func (e *Engine) move(ctx context.Context, run *Run, pages []itemstore.PageRef) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var inFlight sync.WaitGroup
	defer inFlight.Wait()
	for _, ref := range pages {
		if err := e.pages.Acquire(ctx); err != nil {
			break
		}
		inFlight.Go(func() {
			defer e.pages.Release()
			if err := run.Move(ctx, ref); err != nil {
				cancel(err)
			}
		})
		if err := run.NoteProgress(ctx); err != nil {
			cancel(err)
		}
	}
	inFlight.Wait()
	return context.Cause(ctx)
}
