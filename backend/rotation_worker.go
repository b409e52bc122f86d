// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package backend

import (
	"context"
	"errors"
	"sync"

	"github.com/hashicorp/go-hclog"

	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/itemstore"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/rotation"
)

// carryOut works on a rotation until it has ended. If that is being done, it is
// looked at once more afterwards: what it was asked for may have come too late.
func (w *workers) carryOut(i rotation.Intent) { w.carryOutThen(i, func() {}) }

// carryOutThen is carryOut, and calls then when the rotation is not worked on
// any more.
func (w *workers) carryOutThen(i rotation.Intent, then func()) {
	if !w.begin(i.RotationID, func() { w.run(i) }, then) {
		then()
	}
}

// run resumes a rotation as often as it takes to end it.
func (w *workers) run(i rotation.Intent) {
	log := w.log.With("tenant_id", i.TenantID, "rotation_id", i.RotationID)
	for pause := firstBackoff; ; pause = min(2*pause, maxBackoff) {
		over, progressed, err := w.resume(i, log)
		if progressed {
			pause = firstBackoff
		}
		if over || w.ctx.Err() != nil {
			return
		}
		if errors.Is(err, rotation.ErrPaused) {
			return
		}
		if rotation.Overtaken(err) {
			pause = firstBackoff
			continue // not a fault: it was cancelled, say
		}
		if !w.again(log, "rotation met trouble", err, pause) {
			return
		}
	}
}

// resume goes on with a rotation; over says that nothing is left of it, and
// progressed that some pages were moved.
func (w *workers) resume(i rotation.Intent, log hclog.Logger) (over, progressed bool, err error) {
	run, err := w.engine.Recover(w.ctx, i)
	if err != nil {
		return false, false, err
	}
	if run == nil {
		log.Debug("rotation is over, or never started")
		return true, false, nil
	}
	if err := run.Count(w.ctx); err != nil {
		return false, false, err
	}
	if err := run.OpenKeys(w.ctx); err != nil {
		return false, false, err
	}
	log.Debug("rotation in progress")
	for {
		pending, err := run.Pending(w.ctx)
		if err != nil {
			return false, progressed, err
		}
		if len(pending) > 0 {
			if err := w.move(run, pending); err != nil {
				return false, progressed, err
			}
			progressed = true
			continue
		}
		done, err := run.Finish(w.ctx)
		if err != nil {
			return false, progressed, err
		}
		if done {
			how := run.Ended()
			log.Info("rotation ended", "status", how.Phase, "items", how.Rotated.Total(),
				"items_failed", how.Failed, "took", how.EndedAt.Sub(how.StartedAt).String())
			return true, true, nil
		}
	}
}

// move moves pages, many in flight. It asks for one place in the pool at a time
// and the pool serves in turn: so a tenant with many pages does not hold up one
// with few. It returns when every page that it began has been written.
func (w *workers) move(run *rotation.Run, pages []itemstore.PageRef) error {
	ctx, cancel := context.WithCancelCause(w.ctx)
	defer cancel(nil)
	var inFlight sync.WaitGroup
	defer inFlight.Wait()
	for _, ref := range pages {
		if err := w.pool.acquire(ctx); err != nil {
			break
		}
		inFlight.Go(func() {
			defer w.pool.release()
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
