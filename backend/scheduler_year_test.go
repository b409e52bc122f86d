// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package backend

import (
	"context"
	"errors"
	"math/rand/v2"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/uuid"
	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/vault/sdk/logical"
	"github.com/stretchr/testify/require"

	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/settings"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/tenant"
)

// mortal is a storage whose process can die: after so many operations from now
// nothing has an effect any more.
type mortal struct {
	*logical.InmemStorage
	left atomic.Int64 // negative: dead
}

var errDead = errors.New("the process has died")

func (m *mortal) alive(do func() error) error {
	if m.left.Add(-1) < 0 {
		return errDead
	}
	return do()
}

func (m *mortal) List(ctx context.Context, prefix string) (names []string, err error) {
	err = m.alive(func() error { names, err = m.InmemStorage.List(ctx, prefix); return err })
	return names, err
}

func (m *mortal) Get(ctx context.Context, key string) (e *logical.StorageEntry, err error) {
	err = m.alive(func() error { e, err = m.InmemStorage.Get(ctx, key); return err })
	return e, err
}

func (m *mortal) Put(ctx context.Context, e *logical.StorageEntry) error {
	return m.alive(func() error { return m.InmemStorage.Put(ctx, e) })
}

func (m *mortal) Delete(ctx context.Context, key string) error {
	return m.alive(func() error { return m.InmemStorage.Delete(ctx, key) })
}

// fleetYear is a year of a fleet, with the clock that its engine sees.
type fleetYear struct {
	t       *testing.T
	random  *rand.Rand
	disk    *logical.InmemStorage
	storage *mortal
	b       *Engine
	jumped  time.Duration // how far the engine's clock is from the test's

	intervals []dated // of the organization
	dark      []span  // when the engine could not look
	tenants   []*fleetTenant
}

// dated is what holds from a time on.
type dated struct {
	from time.Time
	is   string
}

type span struct{ from, to time.Time }

// fleetTenant is a tenant and what the schedule has to know of it.
type fleetTenant struct {
	id        string
	created   time.Time
	overrides []dated // its own interval; empty: none
	paused    []span
	damaged   bool // for a while a page of it does not open
}

func (y *fleetYear) clock() time.Time { return time.Now().Add(y.jumped).UTC() }

// open starts an engine on the disk; the one before has ended.
func (y *fleetYear) open() {
	y.storage = &mortal{InmemStorage: y.disk}
	y.storage.left.Store(1 << 60)
	b, err := New(context.Background(), &logical.BackendConfig{
		StorageView: y.storage, Logger: hclog.NewNullLogger(), BackendUUID: "6f2b1a6e-0000-4000-8000-000000000000",
		System: logical.StaticSystemView{PluginEnvironment: &logical.PluginEnvironment{}},
	}, Options{Clock: y.clock})
	require.NoError(y.t, err)
	y.b = b
	require.NoError(y.t, b.Initialize(context.Background(), &logical.InitializationRequest{Storage: y.storage}))
}

func (y *fleetYear) must(op logical.Operation, path string, data map[string]any) *logical.Response {
	y.t.Helper()
	resp, err := y.b.HandleRequest(context.Background(), &logical.Request{
		ID: uuid.NewString(), Operation: op, Path: path, Data: data, Storage: y.storage,
	})
	require.NoError(y.t, err, path)
	if resp != nil {
		require.NoError(y.t, resp.Error(), path)
	}
	return resp
}

// tick lets time pass, and Vault's tick come.
func (y *fleetYear) tick(d time.Duration) {
	<-time.After(d)
	_, _ = y.b.HandleRequest(context.Background(), &logical.Request{ // a dead process answers with an error
		Operation: logical.RollbackOperation, Storage: y.storage,
	})
	synctest.Wait()
}

// restart ends the engine as a stop, a failover or a crash does, perhaps in the
// middle of something, and starts another after a while.
func (y *fleetYear) restart(crash bool) {
	from := y.clock()
	if crash {
		y.storage.left.Store(y.random.Int64N(200))
		y.tick(time.Minute)
		y.storage.left.Store(-1)
	}
	y.b.Cleanup(context.Background())
	<-time.After(time.Duration(y.random.IntN(180)) * time.Minute)
	y.open()
	y.tick(time.Minute)
	y.tick(time.Minute)
	y.dark = append(y.dark, span{from, y.clock()})
}

// jump lets the clock of the node that is active now be another.
func (y *fleetYear) jump(d time.Duration) {
	from := y.clock()
	y.jumped += d
	y.tick(time.Minute)
	y.dark = append(y.dark, span{from, y.clock()})
}

func (y *fleetYear) setInterval(interval string) {
	y.must(update, "key/rotationSettings", map[string]any{"rotation_interval": interval})
	y.intervals = append(y.intervals, dated{y.clock(), interval})
}

func (y *fleetYear) create(n int) {
	f := &fleetTenant{id: tenantN(n), created: y.clock()}
	data := map[string]any{}
	if n%10 == 3 {
		own := settings.RotationIntervals[y.random.IntN(3)]
		f.overrides = append(f.overrides, dated{f.created, own})
		data["rotation_interval"] = own
	}
	y.must(update, "tenants/"+f.id, data)
	if n%500 == 7 {
		f.damaged = true
		y.must(update, "tenants/"+f.id+"/secrets/one", secret("one"))
	}
	y.tenants = append(y.tenants, f)
}

// damage flips a bit of the pages of the tenants that have some.
func (y *fleetYear) damage() {
	ctx := context.Background()
	keys, err := logical.CollectKeysWithPrefix(ctx, y.disk, "pages/")
	require.NoError(y.t, err)
	for _, key := range keys {
		e, err := y.disk.Get(ctx, key)
		require.NoError(y.t, err)
		e.Value[len(e.Value)-1] ^= 1
		require.NoError(y.t, y.disk.Put(ctx, e))
		y.b.InvalidateKey(ctx, key)
	}
}

func (y *fleetYear) setPaused(f *fleetTenant, paused bool) {
	y.must(update, "tenants/"+f.id, map[string]any{"rotation_paused": paused})
	if paused {
		f.paused = append(f.paused, span{from: y.clock()})
	} else {
		f.paused[len(f.paused)-1].to = y.clock()
	}
}

// happens is what a day brings besides ticks.
func (y *fleetYear) happens(day int) {
	switch day {
	case 60, 250:
		y.damage() // and it is repaired
	case 150:
		y.setInterval("120_DAYS")
	case 190:
		y.jump(50 * time.Hour)
	case 220:
		y.jump(-7 * time.Hour)
	case 260:
		y.setInterval("180_DAYS")
	}
	for _, f := range y.tenants {
		switch n := y.random.IntN(20_000); {
		case len(f.paused) > 0 && f.paused[0].to.IsZero() && n < 400:
			y.setPaused(f, false)
		case len(f.paused) == 0 && n == 1:
			y.setPaused(f, true)
		case n == 2 && !f.damaged:
			interval := append(settings.RotationIntervals, "")[y.random.IntN(5)]
			y.must(update, "tenants/"+f.id, map[string]any{"rotation_interval": interval})
			f.overrides = append(f.overrides, dated{y.clock(), interval})
		}
	}
}

// A simulated year of 1,000 tenants: restarts, failovers and crashes at random,
// clocks that jump, intervals that change, tenants with their own, paused ones,
// some whose pages do not open for months. Every due date is served, once.
func TestYearOfAFleet(t *testing.T) {
	const seed = 1
	tenants := 1_000
	if underRace || testing.Short() {
		tenants = 150
	}
	synctest.Test(t, func(t *testing.T) {
		y := &fleetYear{t: t, random: rand.New(rand.NewPCG(seed, seed)), disk: new(logical.InmemStorage)}
		y.open()
		y.must(update, "config", map[string]any{"scheduler_jitter": int(fleetJitter.Seconds())})
		y.setInterval("180_DAYS")
		for day := range 365 {
			for range 12 {
				y.tick(2 * time.Hour)
				for day < 30 && len(y.tenants) < tenants && y.random.IntN(12*30*4/3) < 12*30 {
					for range min(max(1, tenants/200), tenants-len(y.tenants)) {
						y.create(len(y.tenants))
					}
				}
				if n := y.random.IntN(60); n < 2 {
					y.restart(n == 1)
				}
			}
			y.happens(day)
		}
		for range 24 {
			y.tick(2 * time.Hour)
		}
		require.Len(t, y.tenants, tenants)
		served := 0
		for _, f := range y.tenants {
			served += y.check(f)
		}
		t.Logf("%d rotations, %d restarts and jumps", served, len(y.dark))
		y.b.Cleanup(context.Background())
	})
}

const (
	fleetJitter = 6 * time.Hour
	// fleetSlack is two ticks: one may find that a rotation has to wait.
	fleetSlack = 4*time.Hour + 10*time.Minute
)

// check compares the rotations of a tenant with its due dates, and returns how
// many there were.
func (y *fleetYear) check(f *fleetTenant) int {
	ctx := context.Background()
	t, err := y.b.Tenants.Read(ctx, f.id)
	require.NoError(y.t, err)
	rotations, err := y.b.Rotations.All(ctx, t)
	require.NoError(y.t, err)
	last := f.created
	for i := len(rotations) - 1; i >= 0; i-- {
		r := rotations[i]
		require.Equal(y.t, tenant.Completed, r.Phase, "tenant %s", f.id)
		require.False(y.t, r.StartedAt.Before(last.Add(y.interval(f, r.StartedAt))), "tenant %s: rotated at %s, too early", f.id, r.StartedAt)
		require.False(y.t, y.latest(f, last).Before(r.StartedAt), "tenant %s: rotated at %s, too late: %s", f.id, r.StartedAt, y.latest(f, last))
		require.Equal(y.t, "scheduled", r.Trigger)
		last = r.StartedAt
	}
	require.False(y.t, y.latest(f, last).Before(y.clock()), "tenant %s: forgotten since %s", f.id, y.latest(f, last))
	// A page that did not open for months has not cost a version at each try.
	require.Equal(y.t, len(rotations)+1, t.Keys.Active().Number, "versions of tenant %s", f.id)
	return len(rotations)
}

// interval is the interval in force for a tenant at a time.
func (y *fleetYear) interval(f *fleetTenant, at time.Time) time.Duration {
	if own := lastOf(f.overrides, at); own != "" {
		return settings.IntervalLength(own)
	}
	return settings.IntervalLength(lastOf(y.intervals, at))
}

func lastOf(changes []dated, at time.Time) (is string) {
	for _, c := range changes {
		if !at.Before(c.from) {
			is = c.is
		}
	}
	return is
}

// latest is when a tenant whose key is of a time has to have been rotated: when
// its interval has passed first, later by the jitter, by pauses, and by the time
// in which nobody could look. A far day stands for never.
func (y *fleetYear) latest(f *fleetTenant, last time.Time) time.Time {
	points := []time.Time{last}
	for _, changes := range [][]dated{y.intervals, f.overrides} {
		for _, c := range changes {
			points = append(points, c.from)
		}
	}
	due := last.AddDate(10, 0, 0)
	for _, p := range points {
		if p.Before(last) {
			p = last
		}
		if at := last.Add(y.interval(f, p)); lastOfDue(at, p).Before(due) && y.interval(f, lastOfDue(at, p)) == y.interval(f, p) {
			due = lastOfDue(at, p)
		}
	}
	due = due.Add(fleetJitter)
	for range 2 { // one delay may lead into another
		for _, w := range append(append([]span(nil), f.paused...), y.dark...) {
			to := w.to
			if to.IsZero() {
				to = y.clock().AddDate(1, 0, 0)
			}
			if !due.Before(w.from.Add(-fleetSlack)) && due.Before(to) {
				due = to
			}
		}
	}
	return due.Add(fleetSlack)
}

// lastOfDue is the later of when an interval has passed and when it came into
// force.
func lastOfDue(at, from time.Time) time.Time {
	if at.Before(from) {
		return from
	}
	return at
}
