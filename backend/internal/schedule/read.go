// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package schedule

import (
	"bytes"
	"context"
	"errors"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/uuid"

	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/dueindex"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/jobs"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/storage"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/tenant"
)

const (
	// maxFailedShards is how many shards may fail to be read before the reading waits:
	// then it is storage that fails, and not an entry of it.
	maxFailedShards = 2
	// readAgainAfter is the time after which each shard is read again.
	readAgainAfter = 24 * time.Hour
	// formerPrefix is the prefix in storage under which earlier versions kept the
	// schedule.
	formerPrefix = "schedule/"
)

// reading says how far the reading of records is.
type reading struct {
	records atomic.Int64 // read since the start
	shards  atomic.Int64 // of which all records have been read

	mu       sync.Mutex
	lastRead [tenant.Shards]time.Time     // zero: not since the start
	again    [tenant.Shards]time.Duration // after which it is read again
	complete chan struct{}                // closed once all shards have been read
	first    int                          // the shard to begin with: of the reading job alone
	cleaned  bool                         // nothing is left of the former schedule
}

// startReading fills, in the background, what is missing in the index, and reads again what
// was read a day ago. When the index is complete for the first time, it starts the rounds.
func (e *Engine) startReading() {
	e.jobs.Run(jobs.Job{
		ID: "schedule/read", FailureMessage: "reading the tenants' records failed",
		Step: func(ctx context.Context) (done, progressed bool, err error) {
			p, err := e.plan(ctx)
			if err != nil {
				return false, false, err
			}
			e.index.SetPlan(p)
			wasComplete := e.reading.isComplete()
			err = e.readShards(ctx)
			e.tellAgain()
			if !wasComplete && e.reading.isComplete() {
				e.rounds() // rotations that became due before the start do not wait for the tick
			}
			if err == nil {
				err = e.cleanUp(ctx)
			}
			return err == nil, false, err
		},
	})
}

// readShards reads the shards whose time has come. One that cannot be listed keeps
// no other waiting.
func (e *Engine) readShards(ctx context.Context) error {
	if err := e.passEmptyShards(ctx); err != nil {
		return err
	}
	var errs []error
	first := e.reading.first
	for i := range tenant.Shards {
		n := (first + i) % tenant.Shards
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if !e.reading.due(n, e.now()) {
			continue
		}
		if err := e.readShard(ctx, n); storage.IsDamaged(err) {
			continue // the next tick tries again
		} else if err != nil {
			if errs = append(errs, err); len(errs) == maxFailedShards {
				e.reading.first = (n + 1) % tenant.Shards // the next try goes on behind it
				break
			}
			continue
		}
		e.reading.done(n, e.now())
	}
	return errors.Join(errs...)
}

// passEmptyShards spares, at the start, listing the shards that have no tenants.
// Tenants that are created meanwhile are reported to the index.
func (e *Engine) passEmptyShards(ctx context.Context) error {
	if e.reading.shards.Load() > 0 {
		return nil
	}
	used, err := e.tenants.UsedShards(ctx)
	if storage.IsDamaged(err) {
		return nil // each is listed
	}
	if err != nil {
		return err
	}
	for n := range tenant.Shards {
		if !used[n] {
			e.reading.done(n, e.now())
		}
	}
	return nil
}

func (r *reading) due(shard int, now time.Time) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	last := r.lastRead[shard]
	// A clock that was set back must not put the reading off.
	return last.IsZero() || now.Before(last) || now.Sub(last) >= r.again[shard]
}

// done notes that a shard has been read. After the first time, the shards are spread
// over the day.
func (r *reading) done(shard int, now time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.again[shard] = readAgainAfter
	if r.lastRead[shard].IsZero() {
		r.again[shard] = readAgainAfter * time.Duration(shard+1) / tenant.Shards
		if r.shards.Add(1) == tenant.Shards {
			close(r.completed())
		}
	}
	r.lastRead[shard] = now
}

// completed is closed once all shards have been read. r.mu is held.
func (r *reading) completed() chan struct{} {
	if r.complete == nil {
		r.complete = make(chan struct{})
	}
	return r.complete
}

// isComplete reports whether every record has been read since the start.
func (r *reading) isComplete() bool { return r.shards.Load() == tenant.Shards }

// wait waits until every record has been read, or ctx ends.
func (r *reading) wait(ctx context.Context) {
	r.mu.Lock()
	complete := r.completed()
	r.mu.Unlock()
	select {
	case <-complete:
	case <-ctx.Done():
	}
}

// readShard reads the records of one shard: of the tenants that List shows, and of
// those in the index. What Get shows decides; List and Get may disagree for a while,
// after a write whose error hid its effect.
func (e *Engine) readShard(ctx context.Context, n int) error {
	ids := e.index.BeginReading(n)
	defer e.index.EndReading(n)
	names, err := e.tenants.InShard(ctx, n)
	if err != nil {
		return err
	}
	for _, name := range names {
		if id, err := uuid.Parse(name); err == nil { // no tenant has another ID
			ids[id] = true
		}
	}
	all := slices.SortedFunc(maps.Keys(ids), func(a, b uuid.UUID) int { return bytes.Compare(a[:], b[:]) }) // in one order, so that a run can be repeated
	found := make([]*dueindex.Found, len(all))
	err = storage.Each(ctx, len(all), func(n int) error {
		found[n] = e.readRecord(ctx, all[n]) // one that cannot be read has an entry that says so
		return nil
	})
	if err != nil {
		return err
	}
	e.index.Install(n, found)
	return nil
}

// readRecord reads one record, from storage; nil if there is none. That a record is listed and does not
// show is a write whose error hid its effect: the next reading finds it.
func (e *Engine) readRecord(ctx context.Context, id uuid.UUID) *dueindex.Found {
	t, err := e.tenants.Refresh(ctx, id.String())
	e.reading.records.Add(1)
	switch {
	case errors.Is(err, tenant.ErrNotFound):
		return nil
	case err != nil:
		return dueindex.Unreadable(id)
	}
	if len(t.Unlogged) > 0 || t.Named {
		e.untold.add(id)
	}
	return e.index.Found(id, t)
}

// cleanUp deletes what storage held for the schedule before it was in memory.
func (e *Engine) cleanUp(ctx context.Context) error {
	e.reading.mu.Lock()
	cleaned := e.reading.cleaned
	e.reading.mu.Unlock()
	if cleaned {
		return nil
	}
	if err := e.mount.DeleteTree(ctx, formerPrefix); err != nil && !storage.IsDamaged(err) {
		return err
	}
	e.reading.mu.Lock()
	defer e.reading.mu.Unlock()
	e.reading.cleaned = true
	return nil
}
