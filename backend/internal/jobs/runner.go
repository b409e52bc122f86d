// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

// Package jobs runs the engine's background work: jobs with a key, repeated until they
// are done, limits on the work in flight, and batches. One job of a key runs at a time; a job that
// is asked for while it runs runs once more afterwards.
//
// A step that fails is tried again after a pause that grows from 250 milliseconds to 30
// seconds. It is at most 2 seconds once a key provider has opened what the step lacked,
// since that closes again with its lease. If storage can only be read, the job stops until Vault's next tick asks for it
// again. Steps get a context that ends when the engine stops, not when a request does.
//
// The package knows no tenant and no storage prefix. It must never cancel a write that is
// in flight (a cancelled write may have taken effect), and never wait longer than
// [StopWithin] when the engine stops.
package jobs

import (
	"context"
	"errors"
	"strings"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/vault/sdk/logical"

	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/storage"
)

const (
	firstPause = 250 * time.Millisecond
	// MaxPause is the longest pause before a step that failed is tried again.
	MaxPause = 30 * time.Second
	// readyPause is the longest pause before a step that now has what it lacked. Pauses go
	// on growing meanwhile: if something else fails each time, that is not tried more often.
	readyPause = 2 * time.Second

	// StopWithin bounds how long stopping waits for writes in flight. Vault
	// holds a lock of the whole plugin process meanwhile.
	StopWithin = 5 * time.Second
)

// Step does part of a job's work, with a context that ends when the engine stops.
// done says that nothing is left to do for now. progressed says that some work was
// done, so the pause before the next try is short again. With neither done nor an
// error, the step is repeated at once.
type Step func(ctx context.Context) (done, progressed bool, err error)

// Job is work under a key.
type Job struct {
	// ID keys the job: of one ID, one job runs at a time.
	ID   string
	Step Step
	// FailureMessage is logged when a step fails, before it is tried again.
	FailureMessage string
	Log            hclog.Logger // nil: the runner's
	// Then, if set, is called once: when the job is not worked on any more, or at once if it
	// was not begun, because the runner has stopped or a job of that ID is running.
	Then func()
}

// Runner runs jobs, each in a goroutine of its own. It is safe for concurrent use.
type Runner struct {
	// Await, if set, is given the error of a step before that is tried again. It waits for
	// what the step needs, and reports whether it knows the error: then there is nothing to
	// log. ready says that the step has what it waited for, for a while: it is tried again
	// soon. It must be set before the runner is used.
	Await func(context.Context, error) (known, ready bool)

	// Ready, if set, is asked before work begins. While it fails nothing is begun; with
	// [storage.ErrNewer] nothing ever is. It must be set before the runner is used.
	Ready func(context.Context) error

	log hclog.Logger

	ctx    context.Context // ends when the engine stops; not a request's
	cancel context.CancelFunc

	mu      sync.Mutex
	stopped bool
	running map[string]*running
	wg      sync.WaitGroup

	readOnly sync.Once // for its line in the log
	newer    sync.Once // the same
}

// running is a job that is being worked on. It may have been asked for again
// meanwhile: the goroutine that is about to leave it then looks once more.
type running struct{ again bool }

// NewRunner returns a Runner.
func NewRunner(log hclog.Logger) *Runner {
	ctx, cancel := context.WithCancel(context.Background())
	return &Runner{log: log, ctx: ctx, cancel: cancel, running: map[string]*running{}}
}

// Context ends when the engine stops.
func (r *Runner) Context() context.Context { return r.ctx }

// Run runs a job in the background until its step says that it is done. If a job
// of that ID is running, it runs once more afterwards, because the work that is asked
// for may have come too late for it.
func (r *Runner) Run(j Job) {
	if j.Log == nil {
		j.Log = r.log
	}
	begun := r.begin(j.ID, func() { r.repeat(j) }, j.Then)
	if !begun && j.Then != nil {
		j.Then()
	}
}

// repeat takes a job's step until it is done or the engine stops, with growing
// pauses after errors.
func (r *Runner) repeat(j Job) {
	for pause := firstPause; ; pause = min(2*pause, MaxPause) {
		done, progressed, err := j.Step(r.ctx)
		if done || r.ctx.Err() != nil {
			return
		}
		if progressed || err == nil {
			pause = firstPause
		}
		known, ready := r.await(err)
		wait := pause
		if ready {
			// What a provider has opened closes with its lease. A step that needs two KEKs
			// would never find both open with pauses that are longer.
			wait = min(pause, readyPause)
		}
		if err != nil && !r.retry(j, err, known, wait) {
			return
		}
	}
}

// await waits for what a step needs that has failed with err.
func (r *Runner) await(err error) (known, ready bool) {
	if err == nil || r.Await == nil || ReadOnly(err) {
		return false, false
	}
	return r.Await(r.ctx, err)
}

// retry logs the error of a step, unless it is known, and pauses; false if the job is to
// be left: the engine stops, or storage can only be read. Vault's next tick takes it up
// then, and until storage can be written nothing more is said.
func (r *Runner) retry(j Job, err error, known bool, pause time.Duration) bool {
	if ReadOnly(err) {
		r.NoteReadOnly(err)
		return false
	}
	if known {
		return r.wait(pause)
	}
	j.Log.Warn(j.FailureMessage+", trying again", "error", err, "pause", pause.String())
	return r.wait(pause)
}

// RunFunc runs f in the background under a key, as Run runs a job, but f decides for itself
// about errors. If work under that key is running, f runs once more after it. then, if it is
// not nil, is called when f has returned. If begun is false, neither is called here.
func (r *Runner) RunFunc(id string, f func(context.Context), then func()) (begun bool) {
	return r.begin(id, func() { f(r.ctx) }, then)
}

func (r *Runner) begin(id string, f, then func()) bool {
	if !r.enter(id) {
		return false
	}
	go func() {
		defer r.wg.Done()
		if r.ready() {
			for f(); !r.leave(id); {
				f()
			}
		} else {
			r.forget(id)
		}
		if then != nil {
			then()
		}
	}()
	return true
}

// ready waits until work may begin; false if the engine stops before, or it never may.
func (r *Runner) ready() bool {
	if r.Ready == nil {
		return true
	}
	for pause := firstPause; ; pause = min(2*pause, MaxPause) {
		err := r.Ready(r.ctx)
		switch {
		case err == nil:
			return true
		case r.ctx.Err() != nil:
			return false
		case errors.Is(err, storage.ErrNewer):
			r.newer.Do(func() { r.log.Error("nothing is done in the background", "error", err) })
			return false
		}
		r.log.Warn("the format of storage cannot be read, trying again", "error", err, "pause", pause.String())
		if !r.wait(pause) {
			return false
		}
	}
}

// enter notes that work on id begins; false if it must not, or has begun.
func (r *Runner) enter(id string) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if job := r.running[id]; job != nil {
		job.again = true
		return false
	}
	if r.stopped {
		return false
	}
	r.running[id] = &running{}
	r.wg.Add(1)
	return true
}

// leave notes that work on id is over; false if it was asked for again.
func (r *Runner) leave(id string) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if job := r.running[id]; job.again && !r.stopped {
		job.again = false
		return false
	}
	delete(r.running, id)
	return true
}

// forget notes that work on id was not begun.
func (r *Runner) forget(id string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.running, id)
}

// Idle reports whether no job is running.
func (r *Runner) Idle() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.running) == 0
}

// ReadOnly reports whether storage can only be read. Over gRPC the error comes as
// text.
func ReadOnly(err error) bool {
	return err != nil && strings.Contains(err.Error(), logical.ErrReadOnly.Error()) || storage.HeldReadOnly(err)
}

// NoteReadOnly logs, once, that storage can only be read.
func (r *Runner) NoteReadOnly(err error) {
	r.readOnly.Do(func() {
		r.log.Warn("storage can only be read: what is unfinished or due waits until it can be written", "error", err)
	})
}

// wait pauses; false if the engine stops meanwhile.
func (r *Runner) wait(d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-r.ctx.Done():
		return false
	}
}

// Stop begins no more steps and lets the writes in flight finish, for at most
// [StopWithin]: cancelling a write does not undo it.
func (r *Runner) Stop() {
	r.mu.Lock()
	r.stopped = true
	r.mu.Unlock()
	r.cancel()
	done := make(chan struct{})
	go func() {
		r.wg.Wait()
		close(done)
	}()
	select {
	case <-done:
	case <-time.After(StopWithin):
		r.log.Warn("stopping without waiting any longer for writes in flight")
	}
}
