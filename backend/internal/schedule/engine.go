// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package schedule

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/deletion"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/destruction"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/dueindex"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/holders"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/jobs"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/kekrotation"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/keystore"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/rotation"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/settings"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/storage"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/tenant"
)

// Config has the packages, the clock and the logger that an Engine uses.
type Config struct {
	Mount       *storage.Mount
	Settings    *settings.Store
	Keys        *keystore.Store
	Tenants     *tenant.Store
	Rotations   *rotation.Engine
	Deletion    *deletion.Engine
	Destruction *destruction.Engine
	Holders     *holders.Engine
	KEK         *kekrotation.Engine
	Now         func() time.Time

	Jobs *jobs.Runner
	Log  hclog.Logger
}

// Engine keeps the schedule of one mount.
type Engine struct {
	mount       *storage.Mount
	settings    *settings.Store
	keys        *keystore.Store
	tenants     *tenant.Store
	rotations   *rotation.Engine
	deletion    *deletion.Engine
	destruction *destruction.Engine
	holders     *holders.Engine
	kek         *kekrotation.Engine
	now         func() time.Time
	jobs        *jobs.Runner
	log         hclog.Logger

	// budget bounds the rotations that this process has started on schedule and is working
	// on, but for those that wait for the evidence log alone. A rotation gives its place back when it ends, is paused, or meets a damaged entry.
	// Rotations resumed after a restart, or by a caller, take no place.
	budget  *jobs.Semaphore
	index   *dueindex.Index
	reading reading

	loggedDamage sync.Map // the last damage that was logged, by tenant ID

	unanswered unanswered  // requests for many
	active     atomic.Bool // this node may write
	untold     untold      // tenants whose records carry events that the log may lack
	plans      atomic.Uint64

	mu           sync.Mutex
	lastRun      time.Time
	restartRound func() // lets the round of rotations that is under way begin anew
}

// NewEngine returns an Engine. From then on every change of a tenant's record is
// reported to it. It does nothing before Start.
func NewEngine(c Config) *Engine {
	e := &Engine{
		mount: c.Mount, settings: c.Settings, keys: c.Keys, tenants: c.Tenants,
		rotations: c.Rotations, deletion: c.Deletion, destruction: c.Destruction, holders: c.Holders, kek: c.KEK, now: c.Now, jobs: c.Jobs, log: c.Log,
		index: dueindex.New(), restartRound: func() {},
	}
	e.budget = jobs.NewSemaphore(e.maxRotations)
	c.Tenants.Watch(func(tenantID string, t *tenant.Record, err error) {
		if err != nil {
			e.index.Suspect(tenantID, isDamaged(err))
			e.mayLack(tenantID)
			return
		}
		e.index.Changed(tenantID, t)
	})
	c.Rotations.WatchRefusals(e.index.Refused)
	return e
}

func (e *Engine) maxRotations() int {
	c, err := e.settings.Config(context.Background())
	if err != nil {
		return 1 // the settings cannot be read: go gently until they can
	}
	return c.MaxConcurrentRotations
}

// plan is what decides now which tenants are due.
func (e *Engine) plan(ctx context.Context) (dueindex.Plan, error) {
	order := e.plans.Add(1)
	rotation, err := e.settings.Rotation(ctx)
	if err != nil {
		return dueindex.Plan{}, err
	}
	c, err := e.settings.Config(ctx)
	return dueindex.Plan{Now: e.now(), Settings: rotation, Jitter: c.SchedulerJitter, Order: order}, err
}

// Start fills the index in the background, and starts the first rounds once that is
// complete. It is called on the active node alone.
func (e *Engine) Start() {
	e.active.Store(true)
	e.startReading()
}

// Wake makes the engine look for tenants that are due. Vault's tick calls it.
func (e *Engine) Wake() {
	e.active.Store(true)
	e.startReading()
	e.rounds()
}

func (e *Engine) rounds() {
	e.jobs.RunFunc("schedule/upkeep", func(ctx context.Context) { e.round(ctx, "upkeep", e.upkeep) }, nil)
	e.jobs.RunFunc("schedule/rotations", func(ctx context.Context) { e.round(ctx, "rotations", e.rotate) }, nil)
}

// WakeNow is Wake for a caller that has just asked for rotations. A round that is running
// starts over, because otherwise it would serve all other tenants first, which may take hours.
func (e *Engine) WakeNow() {
	e.mu.Lock()
	e.restartRound()
	e.mu.Unlock()
	e.Wake()
}

// BudgetChanged lets a round that waits for a place use a larger budget.
func (e *Engine) BudgetChanged() { e.budget.Adjust() }

// Budget bounds the rotations that the schedule has started in this process and that are
// being worked on.
func (e *Engine) Budget() *jobs.Semaphore { return e.budget }

// LastRun returns when the engine last looked for rotations, zero if it has not since
// the start.
func (e *Engine) LastRun() time.Time {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.lastRun
}

// tally counts what a round did.
type tally struct {
	rotated, retried, destroyed, shredded, failed atomic.Int64

	mu  sync.Mutex
	err error // the first one that a tenant caused
}

func (t *tally) trouble(err error) {
	t.failed.Add(1)
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.err == nil {
		t.err = err
	}
}

// round runs f as a round. It logs one line if something happened in it, and what went
// wrong: a tenant that could not be served is due again at the next tick.
func (e *Engine) round(ctx context.Context, name string, f func(context.Context, *tally) error) {
	var did tally
	began := e.now()
	err := f(ctx, &did)
	if ctx.Err() == nil {
		if jobs.ReadOnly(err) || jobs.ReadOnly(did.err) {
			e.jobs.NoteReadOnly(errors.Join(err, did.err))
			return
		}
		if err != nil {
			e.log.Warn("a round of the schedule failed, it is retried at the next tick", "round", name, "error", err)
		}
		if did.err != nil {
			e.log.Warn("the schedule could not serve every tenant", "round", name, "tenants", did.failed.Load(), "error", did.err)
		}
	}
	if did.rotated.Load()+did.retried.Load()+did.destroyed.Load()+did.shredded.Load()+did.failed.Load() > 0 {
		e.log.Info("schedule", "round", name, "rotations_started", did.rotated.Load(),
			"rotations_repeated", did.retried.Load(), "keys_destroyed", did.destroyed.Load(),
			"tenants_shredded", did.shredded.Load(), "failed", did.failed.Load(), "took", e.now().Sub(began).String())
	}
}
