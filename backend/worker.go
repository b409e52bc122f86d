// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package backend

import (
	"context"
	"strings"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/vault/sdk/logical"

	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/rotation"
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

	readOnly sync.Once // for its line in the log
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
			if !w.again(w.log, "trouble with storage", err, pause) {
				return
			}
		}
	})
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

// readOnly reports whether storage can only be read. Over gRPC the error comes as
// text.
func readOnly(err error) bool {
	return err != nil && strings.Contains(err.Error(), logical.ErrReadOnly.Error())
}

// again logs what work met and pauses before it is tried again; false if it is to
// be left: the engine stops, or storage can only be read. Vault's next tick takes
// it up then, and until storage can be written nothing more is said.
func (w *workers) again(log hclog.Logger, met string, err error, pause time.Duration) bool {
	if readOnly(err) {
		w.noteReadOnly(err)
		return false
	}
	log.Warn(met+", trying again", "error", err, "pause", pause)
	return w.wait(pause)
}

// noteReadOnly logs, once, that storage can only be read.
func (w *workers) noteReadOnly(err error) {
	w.readOnly.Do(func() {
		w.log.Warn("storage can only be read: what is unfinished or due waits until it can be written", "error", err)
	})
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
