// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package backend

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/rotation"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/store"
)

const (
	firstBackoff = 250 * time.Millisecond
	maxBackoff   = 30 * time.Second

	// stopWithin bounds how long stopping waits for writes in flight. Vault
	// holds a lock of the whole plugin process meanwhile.
	stopWithin = 5 * time.Second
)

// work is a rotation that is being worked on. It may have been asked for again
// meanwhile: the goroutine that is about to leave it then looks once more.
type work struct{ again bool }

// workers carry rotations out, each in a goroutine of its own, their pages in
// one pool over all tenants.
type workers struct {
	engine *rotation.Engine
	pool   *pool
	log    hclog.Logger

	ctx    context.Context // ends when the engine stops; not a request's
	cancel context.CancelFunc

	mu      sync.Mutex
	stopped bool
	running map[string]*work // by rotation ID
	wg      sync.WaitGroup
}

func newWorkers(e *rotation.Engine, limit func() int, log hclog.Logger) *workers {
	ctx, cancel := context.WithCancel(context.Background())
	return &workers{
		engine: e, pool: newPool(limit), log: log,
		ctx: ctx, cancel: cancel, running: map[string]*work{},
	}
}

// background takes up what is unfinished: see untilDone.
func (w *workers) background(f func(context.Context) error) { w.untilDone("", f) }

// untilDone runs f outside of any request, again and again with growing pauses
// until it succeeds or the engine stops.
func (w *workers) untilDone(id string, f func(context.Context) error) {
	w.begin(id, func() {
		for pause := firstBackoff; ; pause = min(2*pause, maxBackoff) {
			err := f(w.ctx)
			if err == nil || w.ctx.Err() != nil {
				return
			}
			w.log.Warn("trouble with storage, trying again", "error", err, "pause", pause)
			if !w.wait(pause) {
				return
			}
		}
	})
}

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

// begin runs f in the background, and then what comes after it; false if work
// on id has begun already, or the engine stops.
func (w *workers) begin(id string, f func(), then ...func()) bool {
	if !w.enter(id) {
		return false
	}
	go func() {
		defer w.wg.Done()
		for f(); !w.leave(id); {
			f()
		}
		for _, next := range then {
			next()
		}
	}()
	return true
}

// enter notes that work on id begins; false if it must not, or has begun. The
// empty id stands for taking up what is unfinished.
func (w *workers) enter(id string) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if running := w.running[id]; running != nil {
		running.again = true
		return false
	}
	if w.stopped {
		return false
	}
	w.running[id] = &work{}
	w.wg.Add(1)
	return true
}

// leave notes that work on id is over; false if it was asked for again.
func (w *workers) leave(id string) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if running := w.running[id]; running.again && !w.stopped {
		running.again = false
		return false
	}
	delete(w.running, id)
	return true
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
		log.Warn("rotation met trouble, trying again", "error", err, "pause", pause)
		if !w.wait(pause) {
			return
		}
	}
}

// resume goes on with a rotation; over says that nothing is left of it, and
// progressed that some pages were moved.
func (w *workers) resume(i rotation.Intent, log hclog.Logger) (over, progressed bool, err error) {
	run, err := w.engine.Resume(w.ctx, i)
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
func (w *workers) move(run *rotation.Run, pages []store.PageRef) error {
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

// wait pauses; false if the engine stops meanwhile.
func (w *workers) wait(d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-w.ctx.Done():
		return false
	}
}

// stop takes no new pages and lets the writes in flight finish, within a bound:
// cancelling a write does not undo it.
func (w *workers) stop() {
	w.mu.Lock()
	w.stopped = true
	w.mu.Unlock()
	w.cancel()
	done := make(chan struct{})
	go func() {
		w.wg.Wait()
		close(done)
	}()
	select {
	case <-done:
	case <-time.After(stopWithin):
		w.log.Warn("stopping without waiting any longer for writes in flight")
	}
}
