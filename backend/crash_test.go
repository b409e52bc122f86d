// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package backend

import (
	"fmt"
	"os"
	"regexp"
	"runtime"
	"runtime/debug"
	"strconv"
	"strings"
	"testing"
	"testing/cryptotest"
	"testing/synctest"
	"time"

	"github.com/hashicorp/vault/sdk/logical"
	"github.com/stretchr/testify/require"

	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/storagetest"
)

// TestEveryCrashPoint runs each scenario once for every storage operation that
// it makes and every way in which that can fail, opens what is left with a new
// engine, lets it rest, and checks the invariants of docs/design/invariants.md.
func TestEveryCrashPoint(t *testing.T) { atEveryPoint(t, scenarios) }

func atEveryPoint(t *testing.T, scenarios []scenario) {
	t.Helper()
	seed := seedOf(t)
	inOrder(t)
	total := 0
	for _, sc := range scenarios {
		t.Run(sc.name, func(t *testing.T) {
			cryptotest.SetGlobalRandom(t, seed)
			prepared, ops := rehearse(t, sc.before, sc.act)
			points := singleFaults(ops)
			if sc.twice {
				points = append(points, doubleFaults(len(ops))...)
			}
			points = sample(points)
			for _, p := range points {
				ok := t.Run(p.String(), func(t *testing.T) {
					cryptotest.SetGlobalRandom(t, seed+fresh)
					synctest.Test(t, func(t *testing.T) { crashAt(t, prepared, sc.act, p) })
				})
				if !ok {
					t.FailNow() // one is enough to look into
				}
			}
			total += len(points)
			t.Logf("%d crash points", len(points))
		})
	}
	if !t.Failed() {
		t.Logf("%d crash points in %d scenarios, no violation (CRASH_SEED=%d)", total, len(scenarios), seed)
	}
}

// inOrder lets one goroutine run at a time for the rest of the test, so that a seed
// gives the same run each time. Thousands of engines live shortly: they are
// collected more seldom.
func inOrder(t *testing.T) {
	procs, percent := runtime.GOMAXPROCS(1), debug.SetGCPercent(400)
	t.Cleanup(func() {
		runtime.GOMAXPROCS(procs)
		debug.SetGCPercent(percent)
	})
}

// sample leaves out most points under the race detector, which takes ten times
// as long and looks for something else.
func sample(points []point) []point {
	const nth = 16
	if !underRace {
		return points
	}
	var some []point
	for i := 0; i < len(points); i += nth {
		some = append(some, points[i])
	}
	return some
}

// fresh keeps what is drawn after the disk was prepared apart from what was drawn
// before: the same IDs twice would be another test.
const fresh = 1 << 32

// seedOf is where items are placed and what keys and IDs are: one seed, one
// run, as far as goroutines allow.
func seedOf(t *testing.T) uint64 {
	t.Helper()
	text := os.Getenv("CRASH_SEED")
	if text == "" {
		return 1
	}
	seed, err := strconv.ParseUint(text, 10, 64)
	require.NoError(t, err, "CRASH_SEED")
	return seed
}

// crash is a fault at an operation, counted from 1.
type crash struct {
	n     int
	fault storagetest.Fault
}

// point is where a run is broken off, and perhaps the recovery from that.
type point struct{ first, second crash }

func (p point) String() string {
	text := fmt.Sprintf("%d %s", p.first.n, p.first.fault)
	if p.second.n > 0 {
		text += fmt.Sprintf(", then %d %s", p.second.n, p.second.fault)
	}
	return text
}

// singleFaults are all faults of all operations. Of what is done over and over (a
// look at each part of all tenants, at each day of the schedule, nearly all empty)
// it takes the first times and then some.
func singleFaults(ops []string) (points []point) {
	const first, nth = 8, 16
	times := map[string]int{}
	for n, op := range ops {
		if thing := repetitive.FindString(op); thing != "" {
			if times[thing]++; times[thing] > first && times[thing]%nth > 0 {
				continue
			}
		}
		for _, fault := range faultsOf(op) {
			points = append(points, point{first: crash{n + 1, fault}})
		}
	}
	return points
}

var repetitive = regexp.MustCompile(`^(list tenants|list schedule/\w+|put schedule/floors)`)

// doubleFaults let a second fault meet the recovery from the first: at every
// operation the process dies, or a write's error hides its effect, and the second
// fault comes at operations spread over the recovery.
func doubleFaults(ops int) (points []point) {
	const stride, reach = 11, 66
	for n := 1; n <= ops; n++ {
		for _, first := range []storagetest.Fault{storagetest.Gone, storagetest.AfterStale} {
			for m := 1 + n%stride; m <= reach; m += stride {
				second := []storagetest.Fault{storagetest.Gone, storagetest.AfterStale, storagetest.Before}[(n+m)%3]
				points = append(points, point{crash{n, first}, crash{m, second}})
			}
		}
	}
	return points
}

func faultsOf(op string) []storagetest.Fault {
	if strings.HasPrefix(op, "put ") || strings.HasPrefix(op, "delete ") {
		return []storagetest.Fault{storagetest.Before, storagetest.After, storagetest.AfterStale, storagetest.Gone}
	}
	return []storagetest.Fault{storagetest.Before, storagetest.Gone}
}

// rehearse runs a scenario without a fault. It returns the disk before act, what
// was acknowledged by then, and act's operations.
func rehearse(t *testing.T, before, act func(*witness)) (prepared func() *witness, ops []string) {
	t.Helper()
	var disk *storagetest.Disk
	var known *witness
	synctest.Test(t, func(t *testing.T) {
		m := newMount(t)
		slowly(m)
		known = newWitness(m)
		before(known)
		advance(time.Second)
		m.close()
		disk = m.disk.Clone()

		m = openMount(t, m.disk, 0, storagetest.None)
		w := known.on(m)
		synctest.Wait() // what the start reads is not act's
		start := m.storage.Ops()
		act(w)
		advance(time.Minute)
		ops = m.storage.Log()[start:]
		m.close()
	})
	return func() *witness { return known.on(&mount{disk: disk.Clone()}) }, ops
}

// slowly lets one page at a time move, so that operations come in one order.
func slowly(m *mount) {
	m.must(logical.UpdateOperation, "config", map[string]any{"rotation_parallelism": 1})
	m.destroyAtOnce()
}

// crashAt runs act with a fault, and perhaps another in the recovery from it, and
// checks what is left. What met the fault and lives on must not believe anything
// wrong. The request that met it is sent again: as Vault does, with the same ID,
// and as a client does, with a new one.
func crashAt(t *testing.T, prepared func() *witness, act func(*witness), p point) {
	before := prepared()
	m := openMount(t, before.disk, 0, storagetest.None)
	synctest.Wait()
	m.storage.FailNext(p.first.n, p.first.fault)
	w := before.on(m)
	act(w)
	failed := w.failed
	if p.first.fault != storagetest.Gone {
		m.storage.FailNext(0, storagetest.None)
		synctest.Wait()
		w.readsBack()
	}
	m.crash()

	if p.second.n > 0 {
		m = openMount(t, m.disk, p.second.n, p.second.fault)
		advance(time.Minute)
		m.crash()
		w.recovers(failed, p.first.n%2 == 0)
		return
	}
	if failed != nil {
		fork := w.on(&mount{t: t, disk: w.disk.Clone()})
		fork.recovers(failed, true)
	}
	w.recovers(failed, false)
}

// recovers opens what a crash has left, and checks it: twice, since Vault's cache
// may survive the plugin and then go.
func (w *witness) recovers(failed *request, sameID bool) {
	w.t.Helper()
	w.counted()
	w = w.on(openMount(w.t, w.disk, 0, storagetest.None))
	w.again(failed, sameID)
	w.rest()
	w.readsBack()
	w.close()

	w.disk.RestartVault()
	w = w.on(openMount(w.t, w.disk, 0, storagetest.None))
	w.rest()
	w.readsBack()
	w.atRest()
	w.works()
	w.close()
}
