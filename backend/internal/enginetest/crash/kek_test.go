// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package crash

import (
	"fmt"
	"strings"
	"testing"
	"testing/cryptotest"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/enginetest"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/provider/providertest"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/storagetest"
)

// twoVersions leaves a tenant with page and external keys of two versions, and
// another tenant beside it.
func twoVersions(w *enginetest.Oracle) {
	w.Create()
	w.Bulk(6, 3000)
	w.Encrypt("old")
	w.Rotate()
	enginetest.Advance(time.Second)
	w.Encrypt("new")
	enginetest.OtherTenants(w)
}

// kekScenarios are those of the mount's KEK.
var kekScenarios = []scenario{
	{
		name:   "make the first KEK",
		before: func(*enginetest.Oracle) {},
		act: func(w *enginetest.Oracle) {
			w.Create()
			_, _ = w.Call(enginetest.Update, "tenants/"+enginetest.TenantN(1), nil)
			w.Put("a", "1")
		},
	},
	{
		name:   "rotate the KEK",
		before: twoVersions,
		act: func(w *enginetest.Oracle) {
			w.RotateKEK()
			enginetest.Advance(time.Second)
			w.Put("bulk/1", "afterwards")
		},
	},
	{
		name: "rotate the KEK twice",
		before: func(w *enginetest.Oracle) {
			w.Create()
			enginetest.OtherTenants(w)
		},
		act: func(w *enginetest.Oracle) {
			w.RotateKEK()
			enginetest.Advance(time.Second)
			w.RotateKEK()
			enginetest.Advance(time.Second)
			w.Put("a", "1")
		},
	},
	{
		name:   "rotate the KEK while a tenant is created",
		before: enginetest.OtherTenants,
		act: func(w *enginetest.Oracle) {
			w.MidKEK(func() {
				w.Create()
				w.Put("a", "1")
			})
			enginetest.Advance(time.Second)
		},
	},
	{
		name: "rotate the KEK while something leaves for the first time",
		before: func(w *enginetest.Oracle) {
			w.Create()
			enginetest.OtherTenants(w)
		},
		act: func(w *enginetest.Oracle) {
			w.MidKEK(func() { w.Encrypt("one") })
			enginetest.Advance(time.Second)
			w.Encrypt("two")
		},
	},
	{
		name:   "rotate the KEK while a tenant rotates",
		before: twoVersions,
		act: func(w *enginetest.Oracle) {
			w.MidSweep(func() {
				w.RotateKEK()
				w.Put("bulk/1", "while both rotate")
			})
			enginetest.Advance(time.Second)
		},
	},
	{
		name:   "rotate a tenant while the KEK rotates",
		before: twoVersions,
		act: func(w *enginetest.Oracle) {
			w.MidKEK(func() {
				w.Rotate()
				w.Put("bulk/1", "while both rotate")
			})
			enginetest.Advance(time.Second)
		},
	},
	{
		name:   "destroy a version while the KEK rotates",
		before: twoVersions,
		act: func(w *enginetest.Oracle) {
			w.MidKEK(func() { w.Destroy(1, true) })
			enginetest.Advance(time.Second)
		},
	},
	{
		name: "shred a tenant while the KEK rotates, and create it again",
		before: func(w *enginetest.Oracle) {
			w.Create()
			w.Bulk(6, 3000)
			enginetest.OtherTenants(w)
		},
		act: func(w *enginetest.Oracle) {
			w.MidKEK(func() {
				w.DeleteTenant("0")
				w.Create()
			})
			enginetest.Advance(time.Second)
		},
	},
}

// providerScenarios move the KEK under a key provider and away from it.
var providerScenarios = []scenario{
	{
		name:   "make a key provider, and delete it",
		before: func(w *enginetest.Oracle) { w.Create() },
		act: func(w *enginetest.Oracle) {
			_, _ = w.Call(enginetest.Update, "providers/"+enginetest.ProviderName, enginetest.ProviderBody(nil))
			w.Put("a", "1")
			_, _ = w.Call(enginetest.Delete, "providers/"+enginetest.ProviderName, nil)
		},
	},
	{
		name: "move the KEK under a provider, rotate it there, and move it out",
		before: func(w *enginetest.Oracle) {
			w.Create()
			enginetest.OtherTenants(w)
			w.Encrypt("one")
			w.Provide(nil)
		},
		act: func(w *enginetest.Oracle) {
			for _, under := range []string{enginetest.ProviderName, enginetest.ProviderName, ""} {
				w.RotateKEKUnder(under)
				enginetest.Advance(time.Second)
				w.Put("a", under)
			}
		},
	},
	{
		name: "a denying provider while a tenant is created, encrypts and rotates",
		before: func(w *enginetest.Oracle) {
			w.Create()
			w.Put("a", "1")
			w.Provide(nil)
			w.MoveKEK(enginetest.ProviderName)
		},
		act: func(w *enginetest.Oracle) {
			w.Transit.Set(providertest.Denies)
			enginetest.Advance(enginetest.ProviderLease + time.Second)
			_, _ = w.Call(enginetest.Update, "tenants/"+enginetest.TenantN(1), nil)
			_, _ = w.Call(enginetest.Update, enginetest.TenantPath("/encrypt"), map[string]any{"plaintext": "eA=="})
			_, _ = w.Call(enginetest.Update, enginetest.TenantPath("/dek/rotate"), nil)
			w.Transit.Set(providertest.Works)
			enginetest.Advance(11 * time.Second)
			w.Put("a", "2")
			w.Encrypt("two")
			w.Rotate()
			enginetest.Advance(time.Minute)
		},
	},
	{
		name: "move the KEK out while its provider denies, then answers",
		before: func(w *enginetest.Oracle) {
			w.Create()
			enginetest.OtherTenants(w)
			w.Provide(nil)
			w.MoveKEK(enginetest.ProviderName)
		},
		act: func(w *enginetest.Oracle) {
			w.MidKEKUnder("", func() {
				w.Transit.Set(providertest.Denies)
				enginetest.Advance(enginetest.ProviderLease + time.Second)
			})
			enginetest.Advance(time.Minute)
			w.Transit.Set(providertest.Works)
			enginetest.Advance(time.Minute)
			w.Put("a", "1")
		},
	},
}

func TestEveryCrashPointOfProviders(t *testing.T) { atEveryPoint(t, providerScenarios) }

func TestEveryCrashPointOfTheKEK(t *testing.T) { atEveryPoint(t, kekScenarios) }

// TestTwoFaultsOfTheKEK lets a second fault meet the recovery from the first, at
// every third operation of it that does more than list tenants.
func TestTwoFaultsOfTheKEK(t *testing.T) {
	const every = 3
	seed := enginetest.SeedOf(t)
	act := func(w *enginetest.Oracle) {
		w.RotateKEK()
		enginetest.Advance(time.Second)
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
func recoveryOf(t *testing.T, prepared func() *enginetest.Oracle, act func(*enginetest.Oracle), first crash, seed uint64) (at []int) {
	t.Helper()
	name := fmt.Sprintf("recovery from %d %s", first.n, first.fault)
	require.True(t, t.Run(name, func(t *testing.T) {
		cryptotest.SetGlobalRandom(t, seed+fresh)
		synctest.Test(t, func(t *testing.T) {
			before := prepared()
			m := enginetest.OpenMount(t, before.Disk, 0, storagetest.None)
			synctest.Wait()
			m.Storage.FailNext(first.n, first.fault)
			act(before.On(m))
			m.Crash()
			m = enginetest.OpenMount(t, m.Disk, 0, storagetest.None)
			enginetest.Advance(time.Minute)
			for n, op := range m.Storage.Log() {
				if !strings.HasPrefix(op, "list tenants/") {
					at = append(at, n+1)
				}
			}
			m.Close()
		})
	}))
	return at
}
