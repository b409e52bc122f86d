// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package fleet

import (
	"context"
	"math/rand/v2"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/uuid"
	"github.com/hashicorp/vault/sdk/logical"
	"github.com/stretchr/testify/require"

	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/enginetest"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/settings"
)

// fleetYear is a year of a fleet, with the clock that its engine sees.
type fleetYear struct {
	t       *testing.T
	random  *rand.Rand
	disk    *logical.InmemStorage
	storage *mortal
	b       *enginetest.Engine
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
	y.b = enginetest.Conditions{Clock: y.clock}.NewEngine(y.t, y.storage, nil)
	require.NoError(y.t, y.b.Initialize(context.Background(), &logical.InitializationRequest{Storage: y.storage}))
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
	y.must(enginetest.Update, "key/rotationSettings", map[string]any{"rotation_interval": interval})
	y.intervals = append(y.intervals, dated{y.clock(), interval})
}

func (y *fleetYear) create(n int) {
	f := &fleetTenant{id: enginetest.TenantN(n), created: y.clock()}
	data := map[string]any{}
	if n%10 == 3 {
		own := settings.RotationIntervals[y.random.IntN(3)]
		f.overrides = append(f.overrides, dated{f.created, own})
		data["rotation_interval"] = own
	}
	y.must(enginetest.Update, "tenants/"+f.id, data)
	if n%500 == 7 {
		f.damaged = true
		y.must(enginetest.Update, "tenants/"+f.id+"/secrets/one", enginetest.Secret("one"))
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
	y.must(enginetest.Update, "tenants/"+f.id, map[string]any{"rotation_paused": paused})
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
			y.must(enginetest.Update, "tenants/"+f.id, map[string]any{"rotation_interval": interval})
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
	if enginetest.UnderRace || testing.Short() {
		tenants = 20
	}
	synctest.Test(t, func(t *testing.T) {
		y := &fleetYear{t: t, random: rand.New(rand.NewPCG(seed, seed)), disk: new(logical.InmemStorage)}
		y.open()
		y.must(enginetest.Update, "config", map[string]any{"scheduler_jitter": int(fleetJitter.Seconds())})
		y.setInterval("180_DAYS")
		for day := range 365 {
			for range enginetest.Day / fleetPause {
				y.tick(fleetPause)
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
		for range 2 * enginetest.Day / fleetPause {
			y.tick(fleetPause)
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
	fleetPause  = 6 * time.Hour // between two ticks
	fleetJitter = 6 * time.Hour
	// fleetSlack is two ticks: one may find that a rotation has to wait.
	fleetSlack = 2*fleetPause + 10*time.Minute
)
