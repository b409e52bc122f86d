// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package crash

import (
	"context"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/vault/sdk/framework"
	"github.com/hashicorp/vault/sdk/logical"
	"github.com/stretchr/testify/require"

	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/enginetest"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/intents"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/storagetest"
)

// creationOps is how many storage operations the creation of a tenant makes, on a
// mount that has a KEK.
func creationOps(t *testing.T) int {
	t.Helper()
	m := enginetest.NewMount(t)
	defer m.Close()
	m.Must(enginetest.Update, "tenants/"+enginetest.OtherTenant, nil)
	before := m.Storage.Ops()
	m.Must(enginetest.Update, enginetest.TenantPath(""), nil)
	return m.Storage.Ops() - before
}

// A creation breaks off at any operation, in any way, and nobody asks again: the
// tenant is there, whole, or nothing is left of it, also once Vault's cache shows
// what it hid.
func TestCreationThatBreaksOff(t *testing.T) {
	ops := creationOps(t)
	require.Greater(t, ops, 5)
	for n := 1; n <= ops; n++ {
		for _, fault := range []storagetest.Fault{storagetest.Before, storagetest.After, storagetest.AfterStale, storagetest.Gone} {
			for _, restart := range []bool{false, true} { // of the plugin, before it has looked
				t.Run(fmt.Sprintf("%d %s %t", n, fault, restart), func(t *testing.T) {
					synctest.Test(t, func(t *testing.T) { breakOff(t, n, fault, restart) })
				})
			}
		}
	}
}

func breakOff(t *testing.T, n int, fault storagetest.Fault, restart bool) {
	m := enginetest.NewMount(t)
	m.Must(enginetest.Update, "tenants/"+enginetest.OtherTenant, nil)
	synctest.Wait()
	m.Storage.FailNext(n, fault)
	_, err := m.Call(enginetest.Update, enginetest.TenantPath(""), nil)
	if restart {
		m.Storage.Kill()
	}
	enginetest.Advance(5 * time.Minute)
	m.Crash()
	w := enginetest.NewOracle(enginetest.OpenMount(t, m.Disk, 0, storagetest.None))
	w.Created = err == nil
	w.Rest()
	w.Close()
	m.Disk.RestartVault()
	w = w.On(enginetest.OpenMount(t, m.Disk, 0, storagetest.None))
	w.Rest()
	w.AtRest()
	w.Works()
	w.Close()
}

// The log is looked through at any moment of a creation. It waits for its end.
func TestRecoveryBesideACreation(t *testing.T) {
	for n := range creationOps(t) {
		synctest.Test(t, func(t *testing.T) {
			m := enginetest.NewMount(t)
			m.Must(enginetest.Update, "tenants/"+enginetest.OtherTenant, nil)
			synctest.Wait()
			before := m.Storage.Ops()
			m.Storage.Hook(func(string, string) {
				if m.Storage.Ops() == before+n {
					m.Storage.Hook(nil)
					_, _ = m.Call(logical.RollbackOperation, "", map[string]any{"immediate": true})
					require.Nil(t, m.Must(enginetest.List, "rotations", nil)["keys"], "a creation is no rotation")
				}
			})
			m.Must(enginetest.Update, enginetest.TenantPath(""), nil)
			enginetest.Advance(time.Minute)
			w := enginetest.NewOracle(m)
			w.Created = true
			w.AtRest()
			w.Works()
			m.Close()
		})
	}
}

// A creation that failed unseen, and one that was asked for again: the keys of the
// first go, those of the second stay.
func TestCreationAskedForAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := enginetest.NewMount(t)
		m.Must(enginetest.Update, "tenants/"+enginetest.OtherTenant, nil)
		m.Storage.Fail(enginetest.FailOn("put", "tenants/", storagetest.AfterStale))
		_, err := m.Call(enginetest.Update, enginetest.TenantPath(""), nil)
		require.Error(t, err)
		m.Storage.Fail(nil)
		m.Must(enginetest.Update, enginetest.TenantPath(""), nil)
		enginetest.Advance(time.Minute)
		w := enginetest.NewOracle(m)
		w.Created = true
		w.AtRest()
		m.Close()
		m.Disk.RestartVault()
		w = w.On(enginetest.OpenMount(t, m.Disk, 0, storagetest.None))
		w.AtRest()
		w.Works()
		w.Close()
	})
}

// An entry that is left of a creation long past changes nothing, whatever became
// of the tenant.
func TestEntryOfAPastCreation(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := enginetest.NewOracle(enginetest.NewMount(t))
		w.Create()
		w.Put("a", "1")
		past := w.Record().Incarnation
		entry := func(incarnation string) {
			t.Helper()
			_, err := framework.PutWAL(context.Background(), w.Storage, "creation", intents.Intent{TenantID: enginetest.TenantID, Incarnation: incarnation})
			require.NoError(t, err)
		}
		settled := func() {
			t.Helper()
			w.Rest()
			require.Empty(t, w.Disk.Keys(framework.WALPrefix))
			w.AtRest()
			w.ReadsBack()
		}
		entry(past)
		settled()
		w.Must(enginetest.Delete, enginetest.TenantPath(""), map[string]any{"deletion_window": "24h"})
		entry(past)
		w.Rest()
		w.Restore()
		settled()
		w.DeleteTenant("0")
		entry(past)
		settled()
		w.Create()
		w.Put("a", "2")
		entry(past)
		entry("0123456789abcdef0123456789abcdef")
		settled()
		w.Close()
	})
}

func TestMalformedEntryOfACreationIsPassedOver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := enginetest.NewOracle(enginetest.NewMount(t))
		w.Create()
		id, err := framework.PutWAL(context.Background(), w.Storage, "creation", map[string]any{"tenant_id": enginetest.TenantID})
		require.NoError(t, err)
		w.Rest()
		w.Rotate()
		enginetest.Advance(time.Minute)
		require.Equal(t, []string{framework.WALPrefix + id}, w.Disk.Keys(framework.WALPrefix))
		require.Equal(t, "completed", w.Status(w.Rotations[0])["status"])
		w.Close()
	})
}
