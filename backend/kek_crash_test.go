// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package backend

import (
	"fmt"
	"strings"
	"testing"
	"testing/cryptotest"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/storagetest"
)

// twoVersions leaves a tenant with page and external keys of two versions, and
// another tenant beside it.
func twoVersions(w *witness) {
	w.create()
	w.bulk(6, 3000)
	w.encrypt("old")
	w.rotate()
	advance(time.Second)
	w.encrypt("new")
	beside(w)
}

// beside makes other tenants, whose keys are moved before those of the witness's,
// and after.
func beside(w *witness) {
	for n := range 3 {
		w.must(update, "tenants/"+tenantN(n), nil)
	}
}

// kekScenarios are those of the mount's KEK.
var kekScenarios = []scenario{
	{
		name:   "make the first KEK",
		before: func(*witness) {},
		act: func(w *witness) {
			w.create()
			_, _ = w.call(update, "tenants/"+tenantN(1), nil)
			w.put("a", "1")
		},
	},
	{
		name:   "rotate the KEK",
		before: twoVersions,
		act: func(w *witness) {
			w.rotateKEK()
			advance(time.Second)
			w.put("bulk/1", "afterwards")
		},
	},
	{
		name: "rotate the KEK twice",
		before: func(w *witness) {
			w.create()
			beside(w)
		},
		act: func(w *witness) {
			w.rotateKEK()
			advance(time.Second)
			w.rotateKEK()
			advance(time.Second)
			w.put("a", "1")
		},
	},
	{
		name:   "rotate the KEK while a tenant is created",
		before: beside,
		act: func(w *witness) {
			w.midKEK(func() {
				w.create()
				w.put("a", "1")
			})
			advance(time.Second)
		},
	},
	{
		name: "rotate the KEK while something leaves for the first time",
		before: func(w *witness) {
			w.create()
			beside(w)
		},
		act: func(w *witness) {
			w.midKEK(func() { w.encrypt("one") })
			advance(time.Second)
			w.encrypt("two")
		},
	},
	{
		name:   "rotate the KEK while a tenant rotates",
		before: twoVersions,
		act: func(w *witness) {
			w.midSweep(func() {
				w.rotateKEK()
				w.put("bulk/1", "while both rotate")
			})
			advance(time.Second)
		},
	},
	{
		name:   "rotate a tenant while the KEK rotates",
		before: twoVersions,
		act: func(w *witness) {
			w.midKEK(func() {
				w.rotate()
				w.put("bulk/1", "while both rotate")
			})
			advance(time.Second)
		},
	},
	{
		name:   "destroy a version while the KEK rotates",
		before: twoVersions,
		act: func(w *witness) {
			w.midKEK(func() { w.destroy(1, true) })
			advance(time.Second)
		},
	},
	{
		name: "shred a tenant while the KEK rotates, and create it again",
		before: func(w *witness) {
			w.create()
			w.bulk(6, 3000)
			beside(w)
		},
		act: func(w *witness) {
			w.midKEK(func() {
				w.deleteTenant("0")
				w.create()
			})
			advance(time.Second)
		},
	},
}

func TestEveryCrashPointOfTheKEK(t *testing.T) { atEveryPoint(t, kekScenarios) }

// TestTwoFaultsOfTheKEK lets a second fault meet the recovery from the first, at
// every third operation of it that does more than list tenants.
func TestTwoFaultsOfTheKEK(t *testing.T) {
	const every = 3
	seed := seedOf(t)
	act := func(w *witness) {
		w.rotateKEK()
		advance(time.Second)
	}
	cryptotest.SetGlobalRandom(t, seed)
	prepared, ops := rehearse(t, twoVersions, act)
	var points []point
	for n, op := range ops {
		if strings.HasPrefix(op, "list tenants/") {
			continue
		}
		for _, fault := range []storagetest.Fault{storagetest.Gone, storagetest.AfterStale} {
			first := crash{n + 1, fault}
			for i, m := range recoveryOf(t, prepared, act, first, seed) {
				if (n+i)%every != 0 {
					continue
				}
				second := []storagetest.Fault{storagetest.Gone, storagetest.AfterStale, storagetest.Before}[(n+i)/every%3]
				points = append(points, point{first, crash{m, second}})
			}
		}
	}
	points = sample(points)
	for _, p := range points {
		ok := t.Run(p.String(), func(t *testing.T) {
			cryptotest.SetGlobalRandom(t, seed+fresh)
			synctest.Test(t, func(t *testing.T) { crashAt(t, prepared, act, p) })
		})
		if !ok {
			t.FailNow()
		}
	}
	t.Logf("%d pairs of faults", len(points))
}

// recoveryOf returns which operations of the recovery from a fault are worth
// another.
func recoveryOf(t *testing.T, prepared func() *witness, act func(*witness), first crash, seed uint64) (at []int) {
	t.Helper()
	name := fmt.Sprintf("recovery from %d %s", first.n, first.fault)
	require.True(t, t.Run(name, func(t *testing.T) {
		cryptotest.SetGlobalRandom(t, seed+fresh)
		synctest.Test(t, func(t *testing.T) {
			before := prepared()
			m := openMount(t, before.disk, 0, storagetest.None)
			synctest.Wait()
			m.storage.FailNext(first.n, first.fault)
			act(before.on(m))
			m.crash()
			m = openMount(t, m.disk, 0, storagetest.None)
			advance(time.Minute)
			for n, op := range m.storage.Log() {
				if !strings.HasPrefix(op, "list tenants/") {
					at = append(at, n+1)
				}
			}
			m.close()
		})
	}))
	return at
}
