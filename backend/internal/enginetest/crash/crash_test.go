// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package crash

import (
	"fmt"
	"regexp"
	"strings"
	"testing"
	"testing/cryptotest"
	"testing/synctest"
	"time"

	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/enginetest"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/storagetest"
)

// TestEveryCrashPoint runs each scenario once for every storage operation that
// it makes and every way in which that can fail, opens what is left with a new
// engine, lets it rest, and checks the invariants of docs/design/invariants.md.
func TestEveryCrashPoint(t *testing.T) { atEveryPoint(t, scenarios) }

func atEveryPoint(t *testing.T, scenarios []scenario) {
	t.Helper()
	seed := enginetest.SeedOf(t)
	enginetest.InOrder(t)
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

// sample leaves out most points under the race detector, which takes ten times
// as long and looks for something else.
func sample(points []point) []point {
	const nth = 240
	if !enginetest.UnderRace {
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
func rehearse(t *testing.T, before, act func(*enginetest.Oracle)) (prepared func() *enginetest.Oracle, ops []string) {
	t.Helper()
	var disk *storagetest.Disk
	var known *enginetest.Oracle
	synctest.Test(t, func(t *testing.T) {
		m := enginetest.NewMount(t)
		enginetest.Slowly(m)
		known = enginetest.NewOracle(m)
		before(known)
		enginetest.Advance(time.Second)
		m.Close()
		disk = m.Disk.Clone()

		m = enginetest.OpenMount(t, m.Disk, 0, storagetest.None)
		w := known.On(m)
		synctest.Wait() // what the start reads is not act's
		start := m.Storage.Ops()
		act(w)
		enginetest.Advance(time.Minute)
		ops = m.Storage.Log()[start:]
		m.Close()
	})
	return func() *enginetest.Oracle { return known.On(&enginetest.Mount{Disk: disk.Clone()}) }, ops
}

// crashAt runs act with a fault, and perhaps another in the recovery from it, and
// checks what is left. What met the fault and lives on must not believe anything
// wrong. The request that met it is sent again: as Vault does, with the same ID,
// and as a client does, with a new one.
func crashAt(t *testing.T, prepared func() *enginetest.Oracle, act func(*enginetest.Oracle), p point) {
	before := prepared()
	m := enginetest.OpenMount(t, before.Disk, 0, storagetest.None)
	synctest.Wait()
	m.Storage.FailNext(p.first.n, p.first.fault)
	w := before.On(m)
	act(w)
	failed := w.Failed
	if p.first.fault != storagetest.Gone {
		m.Storage.FailNext(0, storagetest.None)
		synctest.Wait()
		w.ReadsBack()
	}
	m.Crash()

	if p.second.n > 0 {
		m = enginetest.OpenMount(t, m.Disk, p.second.n, p.second.fault)
		enginetest.Advance(time.Minute)
		m.Crash()
		recovers(w, failed, p.first.n%2 == 0)
		return
	}
	if failed != nil {
		fork := w.On(&enginetest.Mount{T: t, Disk: w.Disk.Clone()})
		recovers(fork, failed, true)
	}
	recovers(w, failed, false)
}

// recovers opens what a crash has left, and checks it: twice, since Vault's cache
// may survive the plugin and then go.
func recovers(w *enginetest.Oracle, failed *enginetest.Request, sameID bool) {
	w.T.Helper()
	w.Counted()
	w = w.On(enginetest.OpenMount(w.T, w.Disk, 0, storagetest.None))
	w.Retry(failed, sameID)
	w.Rest()
	w.ReadsBack()
	w.Close()

	w.Disk.RestartVault()
	w = w.On(enginetest.OpenMount(w.T, w.Disk, 0, storagetest.None))
	w.Rest()
	w.ReadsBack()
	w.AtRest()
	w.Works()
	w.Close()
}
