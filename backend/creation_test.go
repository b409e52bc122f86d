// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package backend

import (
	"context"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/vault/sdk/framework"
	"github.com/hashicorp/vault/sdk/logical"
	"github.com/stretchr/testify/require"

	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/rotation"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/storagetest"
)

// creationOps is how many storage operations the creation of a tenant makes, on a
// mount that has a KEK.
func creationOps(t *testing.T) int {
	t.Helper()
	m := newMount(t)
	defer m.close()
	m.must(update, "tenants/"+otherTenant, nil)
	before := m.storage.Ops()
	m.must(update, tenantPath(""), nil)
	return m.storage.Ops() - before
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
	m := newMount(t)
	m.must(update, "tenants/"+otherTenant, nil)
	synctest.Wait()
	m.storage.FailNext(n, fault)
	_, err := m.call(update, tenantPath(""), nil)
	if restart {
		m.storage.Kill()
	}
	advance(5 * time.Minute)
	m.crash()
	w := newWitness(openMount(t, m.disk, 0, storagetest.None))
	w.created = err == nil
	w.rest()
	w.close()
	m.disk.RestartVault()
	w = w.on(openMount(t, m.disk, 0, storagetest.None))
	w.rest()
	w.atRest()
	w.works()
	w.close()
}

// The log is looked through at any moment of a creation. It waits for its end.
func TestRecoveryBesideACreation(t *testing.T) {
	for n := range creationOps(t) {
		synctest.Test(t, func(t *testing.T) {
			m := newMount(t)
			m.must(update, "tenants/"+otherTenant, nil)
			synctest.Wait()
			before := m.storage.Ops()
			m.storage.Hook(func(string, string) {
				if m.storage.Ops() == before+n {
					m.storage.Hook(nil)
					_, _ = m.call(logical.RollbackOperation, "", map[string]any{"immediate": true})
					require.Nil(t, m.must(list, "rotations", nil)["keys"], "a creation is no rotation")
				}
			})
			m.must(update, tenantPath(""), nil)
			advance(time.Minute)
			w := newWitness(m)
			w.created = true
			w.atRest()
			w.works()
			m.close()
		})
	}
}

// A creation that failed unseen, and one that was asked for again: the keys of the
// first go, those of the second stay.
func TestCreationAskedForAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMount(t)
		m.must(update, "tenants/"+otherTenant, nil)
		m.storage.Fail(on("put", "tenants/", storagetest.AfterStale))
		_, err := m.call(update, tenantPath(""), nil)
		require.Error(t, err)
		m.storage.Fail(nil)
		m.must(update, tenantPath(""), nil)
		advance(time.Minute)
		w := newWitness(m)
		w.created = true
		w.atRest()
		m.close()
		m.disk.RestartVault()
		w = w.on(openMount(t, m.disk, 0, storagetest.None))
		w.atRest()
		w.works()
		w.close()
	})
}

// An entry that is left of a creation long past changes nothing, whatever became
// of the tenant.
func TestEntryOfAPastCreation(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWitness(newMount(t))
		w.create()
		w.put("a", "1")
		past := w.record().Incarnation
		entry := func(incarnation string) {
			t.Helper()
			_, err := framework.PutWAL(context.Background(), w.storage, "creation", rotation.Intent{TenantID: testTenant, Incarnation: incarnation})
			require.NoError(t, err)
		}
		settled := func() {
			t.Helper()
			w.rest()
			require.Empty(t, w.disk.Keys(framework.WALPrefix))
			w.atRest()
			w.readsBack()
		}
		entry(past)
		settled()
		w.must(del, tenantPath(""), map[string]any{"deletion_window": "24h"})
		entry(past)
		w.rest()
		w.restore()
		settled()
		w.deleteTenant("0")
		entry(past)
		settled()
		w.create()
		w.put("a", "2")
		entry(past)
		entry("0123456789abcdef0123456789abcdef")
		settled()
		w.close()
	})
}

func TestMalformedEntryOfACreationIsPassedOver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWitness(newMount(t))
		w.create()
		id, err := framework.PutWAL(context.Background(), w.storage, "creation", map[string]any{"tenant_id": testTenant})
		require.NoError(t, err)
		w.rest()
		w.rotate()
		advance(time.Minute)
		require.Equal(t, []string{framework.WALPrefix + id}, w.disk.Keys(framework.WALPrefix))
		require.Equal(t, "completed", w.status(w.rotations[0])["status"])
		w.close()
	})
}
