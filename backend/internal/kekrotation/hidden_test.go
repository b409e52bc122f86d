// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package kekrotation_test

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/vault/sdk/logical"
	"github.com/stretchr/testify/require"

	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/enginetest"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/storagetest"
)

// The switch took effect and no Get shows it: the old KEK goes on wrapping. When
// Vault's cache shows the new one, everything is moved to it, what came since too.
func TestHiddenSwitchOfTheKEK(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := enginetest.WithKeys(t)
		defer w.Close()
		old := w.Must(enginetest.Read, "kek", nil)["kek_id"]
		left := w.FailStale(3, "put", func(key string) bool { return key == "kek/current" })
		resp, err := w.Call(enginetest.Update, "kek/rotate", nil)
		require.Equal(t, 500, enginetest.Code(resp, err))
		require.Zero(t, *left)
		w.Storage.Fail(nil)
		enginetest.Advance(time.Hour)
		require.Equal(t, old, w.Must(enginetest.Read, "kek", nil)["kek_id"])
		w.Must(enginetest.Update, "tenants/"+enginetest.TenantN(1), nil)
		w.Rotate()
		enginetest.Advance(time.Second)
		w.Encrypt("under the old KEK")

		w.Disk.RestartVault()
		w.Tick()
		st := w.Must(enginetest.Read, "kek", nil)
		require.NotEqual(t, old, st["kek_id"])
		require.Equal(t, "completed", st["status"])
		w.Wrapped()
		w.ReadsBack()
		w.Works()
	})
}

// An older record of the KEK was put with hidden effect after the switch, as by an instance
// that tells the evidence log again. The worker, which sees the new one, makes sure of it
// before it destroys the KEK that the older one names: a crash loses nothing.
func TestRecordOfTheKEKIsSettledBeforeOneIsDestroyed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := enginetest.WithKeys(t)
		former := w.Disk.Value("kek/current")
		w.DiesAfter("put", "kek/current")
		_, _ = w.Call(enginetest.Update, "kek/rotate", nil)
		w.Crash()
		w.PutHidden("kek/current", former)

		w = w.On(enginetest.Conditions{}.Open(t, w.Disk, 0, storagetest.None))
		w.DiesAfter("delete", "kek/keys/")
		w.Start()
		enginetest.Advance(time.Minute)
		w.Crash()
		require.Len(t, w.Disk.Keys("kek/keys/"), 1, "one is destroyed")

		w.Disk.RestartVault()
		w = w.On(enginetest.OpenMount(t, w.Disk, 0, storagetest.None))
		defer w.Close()
		enginetest.Advance(time.Minute)
		require.Equal(t, "completed", w.Must(enginetest.Read, "kek", nil)["status"])
		w.Wrapped()
		w.ReadsBack()
		w.Works()
	})
}

// So does a move of a tenant's keys, of the tenant's record.
func TestRecordOfATenantIsSettledBeforeItsKEKIsDestroyed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := enginetest.WithKeys(t)
		w.Provide(nil)
		w.MoveUnderOwnKEK()
		record := w.Disk.Keys("tenants/")[0]
		former := w.Disk.Value(record)
		require.NoError(t, w.Engine.Pages.Acquire(t.Context())) // the only place: the move waits
		w.Must(enginetest.Update, enginetest.TenantPath("/kek/rotate"), nil)
		enginetest.Advance(time.Second)
		require.Len(t, w.Disk.Keys("tenantkeks/"), 2)
		w.PutHidden(record, former)
		w.DiesAfter("delete", "tenantkeks/")
		w.Engine.Pages.Release()
		enginetest.Advance(time.Minute)
		w.Crash()
		require.Len(t, w.Disk.Keys("tenantkeks/"), 1, "one is destroyed")

		w.Disk.RestartVault()
		w = w.On(enginetest.OpenMount(t, w.Disk, 0, storagetest.None))
		defer w.Close()
		w.Rests(1)
		w.Wrapped()
		w.OwnKEKsAtRest()
		w.ReadsBack()
		w.Works()
	})
}

// An external key whose Put failed with effect is hidden by Vault's cache, and has
// sealed nothing. It goes; else it would show later, under a KEK that is gone.
func TestHiddenKeyGoesWithTheKEK(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := enginetest.Filled(t, 1)
		defer w.Close()
		external := func(key string) bool { return strings.HasSuffix(key, ".ext") }
		w.FailStale(1, "put", external)
		w.Encrypt("fails")
		require.Empty(t, w.External.Sealed)
		w.Storage.Fail(nil)
		w.Must(enginetest.Update, "kek/rotate", nil)
		enginetest.Advance(time.Second)
		require.Equal(t, "completed", w.Must(enginetest.Read, "kek", nil)["status"])
		w.Wrapped()
		w.Disk.RestartVault()
		w.Wrapped()
		w.Encrypt("works")
		w.ReadsBack()
	})
}

// A version is kept for such a key, once its page key is gone. Then the key stays, and so
// does the old KEK, until it shows: a version without any key would stay for ever.
func TestHiddenKeyThatAVersionIsKeptForStays(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := enginetest.Filled(t, 1)
		defer w.Close()
		w.FailStale(1, "put", func(key string) bool { return strings.HasSuffix(key, ".ext") })
		w.Encrypt("fails")
		w.Storage.Fail(nil)
		w.Rotate()
		enginetest.Advance(time.Second)
		require.Equal(t, "deactivated", w.VersionList()[0]["state"])
		w.Must(enginetest.Update, "kek/rotate", nil)
		enginetest.Advance(time.Second)
		kek := w.Must(enginetest.Read, "kek", nil)
		require.Equal(t, "failed", kek["status"])
		require.Len(t, kek["failures"], 1)
		w.Wrapped()

		w.Disk.RestartVault()
		w.Must(enginetest.Update, "kek/rotate", nil)
		enginetest.Advance(time.Second)
		require.Equal(t, "completed", w.Must(enginetest.Read, "kek", nil)["status"])
		w.ReadsBack()
		w.AtRest()
	})
}

// A key whose deletion failed with effect still shows. It is not brought back.
func TestDestroyedKeyDoesNotComeBackWithTheKEK(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := enginetest.WithKeys(t)
		defer w.Close()
		w.FailStale(1, "delete", func(key string) bool { return strings.HasSuffix(key, ".ext") })
		w.Destroy(1, true)
		w.Storage.Fail(nil)
		before := w.Disk.Keys("keys/")
		w.Must(enginetest.Update, "kek/rotate", nil)
		enginetest.Advance(time.Second)
		require.Equal(t, "completed", w.Must(enginetest.Read, "kek", nil)["status"])
		require.Equal(t, before, w.Disk.Keys("keys/"))
		w.Wrapped()
	})
}

// The keys of a tenant that is being shredded are left alone: they are being
// deleted, and moving one would bring it back.
func TestShreddedKeysDoNotComeBackWithTheKEK(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := enginetest.WithKeys(t)
		defer w.Close()
		deleted := 0
		w.Storage.Fail(func(op, key string) storagetest.Fault {
			if op == "delete" && strings.HasPrefix(key, "keys/") {
				if deleted++; deleted%2 == 0 {
					return storagetest.Before
				}
			}
			return storagetest.None
		})
		resp, err := w.Call(enginetest.Delete, enginetest.TenantPath(""), map[string]any{"deletion_window": 0})
		require.Equal(t, 500, enginetest.Code(resp, err), "keys are left")
		w.Storage.Fail(nil)
		left := w.Disk.Keys("keys/")
		require.NotEmpty(t, left)
		values := w.Disk.Clone()
		w.Must(enginetest.Update, "kek/rotate", nil)
		enginetest.Advance(time.Second)
		require.Equal(t, "completed", w.Must(enginetest.Read, "kek", nil)["status"])
		for _, key := range left {
			require.Equal(t, values.Value(key), w.Disk.Value(key), "written again")
		}
		w.Tick()
		require.Empty(t, w.Disk.Keys("keys/"))
	})
}

// A tenant whose record does not show may turn out to exist, with keys under the
// old KEK.
func TestHiddenTenantKeepsTheOldKEK(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := enginetest.WithKeys(t)
		old := w.Must(enginetest.Read, "kek", nil)["kek_id"].(string)
		hidden := "tenants/" + enginetest.TenantN(1)
		recordOf := func(key string) bool {
			return strings.HasSuffix(key, enginetest.TenantN(1)) && strings.HasPrefix(key, "tenants/")
		}
		stored := w.Disk.Clone()
		w.Must(enginetest.Update, hidden, nil)
		for _, key := range w.Disk.Keys("") {
			if stored.Value(key) == nil && !recordOf(key) {
				stored.Set(key, w.Disk.Value(key)) // all but its record
			}
		}
		record := w.Disk.Keys("tenants/")
		require.Len(t, record, 2)
		w.Crash()
		m := enginetest.OpenMount(t, stored, 0, storagetest.None)
		m.FailStale(1, "put", recordOf)
		for _, key := range record {
			if recordOf(key) {
				// As a creation whose last write failed, and of which no trace is left.
				require.Error(t, m.Storage.Put(t.Context(), &logical.StorageEntry{Key: key, Value: w.Disk.Value(key)}))
			}
		}
		m.Storage.Fail(nil)
		m.Must(enginetest.Update, "kek/rotate", nil)
		enginetest.Advance(5 * time.Minute)
		require.Equal(t, "in_progress", m.Must(enginetest.Read, "kek", nil)["status"], "it may pass")
		enginetest.Advance(10 * time.Minute)
		st := m.Must(enginetest.Read, "kek", nil)
		require.Equal(t, "failed", st["status"])
		require.Equal(t, enginetest.TenantN(1), st["failures"].([]map[string]any)[0]["tenant_id"])
		require.Contains(t, st["older_kek_ids"], old)

		stored.RestartVault()
		require.Equal(t, "active", m.Must(enginetest.Read, hidden, nil)["state"])
		m.Must(enginetest.Update, "kek/rotate", nil)
		enginetest.Advance(time.Minute)
		require.Equal(t, "completed", m.Must(enginetest.Read, "kek", nil)["status"])
		fresh := w.On(m)
		defer fresh.Close()
		fresh.Wrapped()
		fresh.ReadsBack()
		m.Must(enginetest.Update, hidden+"/secrets/a", enginetest.Secret("v"))
	})
}

// Keys that have been moved are read once more before the old KEK goes. So one that
// a late write has put back is moved again.
func TestMovedKeyIsReadOnceMore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := enginetest.WithKeys(t)
		defer w.Close()
		landed := w.EachLands("keys/")
		w.RotateKEK()
		enginetest.Advance(time.Minute)
		w.Storage.Done(nil)
		require.Len(t, landed, 4)
		w.KekAtRest()
		w.ReadsBack()
		w.Works()
	})
}
