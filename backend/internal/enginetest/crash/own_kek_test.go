// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package crash

import (
	"testing"
	"time"

	"github.com/hashicorp/vault/sdk/logical"

	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/enginetest"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/provider/providertest"
)

// ownScenarios move a tenant's keys to a KEK of its own and away from it.
var ownScenarios = []scenario{
	{
		name:   "create a tenant under a key provider",
		before: func(w *enginetest.Oracle) { w.Provide(nil) },
		act: func(w *enginetest.Oracle) {
			w.Do(enginetest.Update, enginetest.TenantPath(""), map[string]any{"key_provider": enginetest.ProviderName},
				func(w *enginetest.Oracle, _ *logical.Response) { w.Created = true })
			w.Put("a", "1")
			w.Encrypt("one")
		},
	},
	{
		name:   "move a tenant's keys under a provider, to another KEK there, and out",
		before: movable,
		act: func(w *enginetest.Oracle) {
			for _, under := range []string{enginetest.ProviderName, enginetest.ProviderName, ""} {
				w.MoveKeys(under)
				enginetest.Advance(time.Second)
				w.Put("a", "to "+under)
			}
		},
	},
	{
		name: "move a mount's only tenant out of the provider that it was created under: the mount has no KEK",
		before: func(w *enginetest.Oracle) {
			w.Provide(nil)
			w.Must(enginetest.Update, enginetest.TenantPath(""), map[string]any{"key_provider": enginetest.ProviderName})
			w.Created = true
			w.Put("a", "1")
			w.Encrypt("one")
		},
		act: func(w *enginetest.Oracle) {
			w.MoveKeys("")
			enginetest.Advance(time.Second)
			w.Put("a", "2")
		},
	},
	{
		name:   "move a tenant's keys in while the KEK rotates, and it leaves for the first time",
		before: movable,
		act: func(w *enginetest.Oracle) {
			w.MidMove(enginetest.ProviderName, func() {
				w.RotateKEK()
				w.Encrypt("two")
			})
		},
	},
	{
		name:   "move a tenant's keys out while the KEK rotates",
		before: moved,
		act: func(w *enginetest.Oracle) {
			w.MidMove("", func() {
				w.RotateKEK()
				w.Encrypt("two")
			})
		},
	},
	{
		name:   "rotate the KEK, and a tenant that is under a provider that denies",
		before: moved,
		act: func(w *enginetest.Oracle) {
			w.Rotate()
			w.RotateKEK()
			w.Transit.Set(providertest.Denies)
			enginetest.Advance(enginetest.ProviderLease + time.Second)
			w.MoveKeys("")
			w.Transit.Set(providertest.Works)
			enginetest.Advance(time.Minute)
		},
	},
	{
		name: "shred a tenant whose provider denies while its keys move, and create it again",
		before: func(w *enginetest.Oracle) {
			w.Create()
			w.Put("a", "1")
			w.Provide(nil)
			w.MoveTenant(enginetest.TenantID, enginetest.ProviderName)
			w.Tick()
		},
		act: func(w *enginetest.Oracle) {
			w.MidMove("", func() {
				w.Transit.Set(providertest.Denies)
				enginetest.Advance(enginetest.ProviderLease + time.Second)
				w.DeleteTenant("0")
				w.Transit.Set(providertest.Works)
				w.Create()
			})
		},
	},
}

// movable leaves a tenant with keys of each kind, others, and a provider.
func movable(w *enginetest.Oracle) {
	w.Create()
	w.Put("a", "1")
	w.Encrypt("one")
	w.Must(enginetest.Update, "tenants/"+enginetest.TenantN(1), nil)
	w.Provide(nil)
}

// moved is movable, with the tenant's keys under the provider.
func moved(w *enginetest.Oracle) {
	movable(w)
	w.MoveTenant(enginetest.TenantID, enginetest.ProviderName)
	w.Tick() // moving in has made a rotation due
}

func TestEveryCrashPointOfOwnKEKs(t *testing.T) { atEveryPoint(t, ownScenarios) }
