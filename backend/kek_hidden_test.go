// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package backend

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/vault/sdk/logical"
	"github.com/stretchr/testify/require"

	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/storagetest"
)

// failStale lets the next n operations of that name on keys of that form fail with
// effect, while Vault's cache goes on showing what it showed.
func (m *mount) failStale(n int, op string, on func(key string) bool) (left *int) {
	left = &n
	m.storage.Fail(func(o, key string) storagetest.Fault {
		if o != op || !on(key) || *left == 0 {
			return storagetest.None
		}
		*left--
		return storagetest.AfterStale
	})
	return left
}

// The switch took effect and no Get shows it: the old KEK goes on wrapping. When
// Vault's cache shows the new one, everything is moved to it, what came since too.
func TestHiddenSwitchOfTheKEK(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := withKeys(t)
		defer w.close()
		old := w.must(read, "kek", nil)["kek_id"]
		left := w.failStale(3, "put", func(key string) bool { return key == "kek/current" })
		resp, err := w.call(update, "kek/rotate", nil)
		require.Equal(t, 500, code(resp, err))
		require.Zero(t, *left)
		w.storage.Fail(nil)
		advance(time.Hour)
		require.Equal(t, old, w.must(read, "kek", nil)["kek_id"])
		w.must(update, "tenants/"+tenantN(1), nil)
		w.rotate()
		advance(time.Second)
		w.encrypt("under the old KEK")

		w.disk.RestartVault()
		w.tick()
		st := w.must(read, "kek", nil)
		require.NotEqual(t, old, st["kek_id"])
		require.Equal(t, "completed", st["status"])
		w.wrapped()
		w.readsBack()
		w.works()
	})
}

// An external key whose Put failed with effect is hidden by Vault's cache, and has
// sealed nothing. It goes; else it would show later, under a KEK that is gone.
func TestHiddenKeyGoesWithTheKEK(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := filled(t, 1)
		defer w.close()
		external := func(key string) bool { return strings.HasSuffix(key, ".ext") }
		w.failStale(1, "put", external)
		w.encrypt("fails")
		require.Empty(t, w.outside.sealed)
		w.storage.Fail(nil)
		w.must(update, "kek/rotate", nil)
		advance(time.Second)
		require.Equal(t, "completed", w.must(read, "kek", nil)["status"])
		w.wrapped()
		w.disk.RestartVault()
		w.wrapped()
		w.encrypt("works")
		w.readsBack()
	})
}

// A key whose deletion failed with effect still shows. It is not brought back.
func TestDestroyedKeyDoesNotComeBackWithTheKEK(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := withKeys(t)
		defer w.close()
		w.failStale(1, "delete", func(key string) bool { return strings.HasSuffix(key, ".ext") })
		w.destroy(1, true)
		w.storage.Fail(nil)
		before := w.disk.Keys("keys/")
		w.must(update, "kek/rotate", nil)
		advance(time.Second)
		require.Equal(t, "completed", w.must(read, "kek", nil)["status"])
		require.Equal(t, before, w.disk.Keys("keys/"))
		w.wrapped()
	})
}

// The keys of a tenant that is being shredded are left alone: they are being
// deleted, and moving one would bring it back.
func TestShreddedKeysDoNotComeBackWithTheKEK(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := withKeys(t)
		defer w.close()
		deleted := 0
		w.storage.Fail(func(op, key string) storagetest.Fault {
			if op == "delete" && strings.HasPrefix(key, "keys/") {
				if deleted++; deleted%2 == 0 {
					return storagetest.Before
				}
			}
			return storagetest.None
		})
		resp, err := w.call(del, tenantPath(""), map[string]any{"deletion_window": 0})
		require.Equal(t, 500, code(resp, err), "keys are left")
		w.storage.Fail(nil)
		left := w.disk.Keys("keys/")
		require.NotEmpty(t, left)
		values := w.disk.Clone()
		w.must(update, "kek/rotate", nil)
		advance(time.Second)
		require.Equal(t, "completed", w.must(read, "kek", nil)["status"])
		for _, key := range left {
			require.Equal(t, values.Value(key), w.disk.Value(key), "written again")
		}
		w.tick()
		require.Empty(t, w.disk.Keys("keys/"))
	})
}

// A tenant whose record does not show may turn out to exist, with keys under the
// old KEK.
func TestHiddenTenantKeepsTheOldKEK(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := withKeys(t)
		old := w.must(read, "kek", nil)["kek_id"].(string)
		hidden := "tenants/" + tenantN(1)
		recordOf := func(key string) bool { return strings.HasSuffix(key, tenantN(1)) && strings.HasPrefix(key, "tenants/") }
		stored := w.disk.Clone()
		w.must(update, hidden, nil)
		for _, key := range w.disk.Keys("") {
			if stored.Value(key) == nil && !recordOf(key) {
				stored.Set(key, w.disk.Value(key)) // all but its record
			}
		}
		record := w.disk.Keys("tenants/")
		require.Len(t, record, 2)
		w.crash()
		m := openMount(t, stored, 0, storagetest.None)
		m.failStale(1, "put", recordOf)
		for _, key := range record {
			if recordOf(key) {
				// As a creation whose last write failed, and of which no trace is left.
				require.Error(t, m.storage.Put(t.Context(), &logical.StorageEntry{Key: key, Value: w.disk.Value(key)}))
			}
		}
		m.storage.Fail(nil)
		m.must(update, "kek/rotate", nil)
		advance(5 * time.Minute)
		require.Equal(t, "in_progress", m.must(read, "kek", nil)["status"], "it may pass")
		advance(10 * time.Minute)
		st := m.must(read, "kek", nil)
		require.Equal(t, "failed", st["status"])
		require.Equal(t, tenantN(1), st["failures"].([]map[string]any)[0]["tenant_id"])
		require.Contains(t, st["older_kek_ids"], old)

		stored.RestartVault()
		require.Equal(t, "active", m.must(read, hidden, nil)["state"])
		m.must(update, "kek/rotate", nil)
		advance(time.Minute)
		require.Equal(t, "completed", m.must(read, "kek", nil)["status"])
		fresh := w.on(m)
		defer fresh.close()
		fresh.wrapped()
		fresh.readsBack()
		m.must(update, hidden+"/secrets/a", secret("v"))
	})
}

// Keys that have been moved are read once more before the old KEK goes. So one that
// a late write has put back is moved again.
func TestMovedKeyIsReadOnceMore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := withKeys(t)
		defer w.close()
		landed := w.eachLands("keys/")
		w.rotateKEK()
		advance(time.Minute)
		w.storage.Done(nil)
		require.Len(t, landed, 4)
		w.kekAtRest()
		w.readsBack()
		w.works()
	})
}
