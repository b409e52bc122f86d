// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package keystore_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/enginetest"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/provider/providertest"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/storagetest"
)

// A rotation of a tenant waits for the provider, says so, and goes on by itself.
func TestRotationWaitsForTheProvider(t *testing.T) {
	beneath(t, nil, func(w *enginetest.Oracle) {
		w.Must(enginetest.Update, "config", map[string]any{"rotation_parallelism": 1})
		w.Engine.Pages.Request() // holds the pages up
		w.Rotate()
		id := w.Rotations[len(w.Rotations)-1]
		require.Nil(w.T, w.Status(id)["waiting_for"])
		w.Transit.Set(providertest.Denies)
		enginetest.Advance(enginetest.ProviderLease + time.Second)
		w.Engine.Pages.Release()
		enginetest.Advance(time.Minute)
		status := w.Status(id)
		require.Equal(w.T, []any{"in_progress", enginetest.ProviderName, 0}, []any{status["status"], status["waiting_for"], status["items_failed"]})
		w.Transit.Set(providertest.Works)
		enginetest.Advance(time.Minute)
		status = w.Status(id)
		require.Equal(w.T, []any{"completed", nil, 0}, []any{status["status"], status["waiting_for"], status["items_failed"]})
		w.ReadsBack()
		w.AtRest()
	})
}

// A rotation of the KEK out of a provider waits, too, and no key fails by that.
func TestMovingOutWaitsForTheProvider(t *testing.T) {
	beneath(t, nil, func(w *enginetest.Oracle) {
		w.Must(enginetest.Update, "config", map[string]any{"rotation_parallelism": 1})
		w.Engine.Pages.Request()
		w.Must(enginetest.Update, "kek/rotate", map[string]any{"provider": ""})
		w.Transit.Set(providertest.Denies)
		enginetest.Advance(enginetest.ProviderLease + time.Second)
		w.Engine.Pages.Release()
		enginetest.Advance(time.Minute)
		kek := w.Must(enginetest.Read, "kek", nil)
		require.Equal(w.T, []any{"in_progress", enginetest.ProviderName, ""}, []any{kek["status"], kek["waiting_for"], kek["provider"]})
		w.Transit.Set(providertest.Works)
		enginetest.Advance(time.Minute)
		kek = w.Must(enginetest.Read, "kek", nil)
		require.Equal(w.T, []any{"completed", nil, 0}, []any{kek["status"], kek["waiting_for"], kek["keys_failed"]})
		w.Transit.Set(providertest.Denies)
		enginetest.Advance(enginetest.ProviderLease + time.Second)
		w.ReadsBack()
		w.Opens()
		w.AtRest()
	})
}

// The schedule starts what is due once the provider opens again.
func TestScheduleWaitsForTheProvider(t *testing.T) {
	beneath(t, nil, func(w *enginetest.Oracle) {
		w.Must(enginetest.Update, enginetest.TenantPath(""), map[string]any{"rotation_interval": "1h"})
		w.Transit.Set(providertest.Denies)
		enginetest.Advance(3 * time.Hour)
		w.Tick()
		require.Empty(w.T, w.RotationsOf(enginetest.TenantID))
		w.Transit.Set(providertest.Works)
		enginetest.Advance(11 * time.Second)
		w.Tick()
		enginetest.Advance(time.Minute)
		require.Equal(w.T, "completed", w.RotationsOf(enginetest.TenantID)[0]["status"])
		w.ReadsBack()
	})
}

// A tenant whose provider is gone for good is deleted, and so are its keys.
func TestTenantIsDeletedWithoutItsProvider(t *testing.T) {
	beneath(t, nil, func(w *enginetest.Oracle) {
		w.Transit.Set(providertest.Gone)
		w = openedAnew(w)
		w.Transit.Set(providertest.Gone)
		w.Must(enginetest.Delete, enginetest.TenantPath(""), map[string]any{"deletion_window": 0})
		enginetest.Advance(time.Minute)
		require.Empty(w.T, w.Disk.Keys("keys/"))
		require.Empty(w.T, w.Disk.Keys("pages/"))
	})
}

// What is stored of a KEK under a provider does not hold the KEK, and what is opened is
// checked: another KEK at its place does not open anything.
func TestStoredKEKIsWrapped(t *testing.T) {
	beneath(t, nil, func(w *enginetest.Oracle) {
		keys := w.Disk.Keys("kek/keys/")
		require.Len(w.T, keys, 1)
		entry := w.Disk.Value(keys[0])
		require.Greater(w.T, len(entry), 64)
		w.Must(enginetest.Update, "kek/rotate", nil)
		enginetest.Advance(time.Second)
		now := w.Disk.Keys("kek/keys/")
		require.Len(w.T, now, 1)
		require.NotEqual(w.T, keys, now)
		w.Disk.Set(now[0], entry) // an attacker who can write to storage may do that
		w.Disk.RestartVault()
		w = openedAnew(w)
		_, err := w.Call(enginetest.Read, enginetest.ItemPath("a"), nil)
		require.ErrorContains(w.T, err, "unavailable")
	})
}

// An answer of storage that is lost after the switch leaves the KEK under both or neither,
// never a KEK that cannot be reached.
func TestSwitchWhoseOutcomeIsNotKnown(t *testing.T) {
	for _, fault := range []storagetest.Fault{storagetest.Before, storagetest.After, storagetest.AfterStale} {
		for _, prefix := range []string{"kek/keys/", "kek/current"} {
			enginetest.InFakeTime(t, func(m *enginetest.Mount) {
				w := enginetest.NewOracle(m)
				w.Put("a", "1")
				m.Provide(nil)
				m.Storage.Fail(enginetest.FailOn("put", prefix, fault))
				_, err := m.Call(enginetest.Update, "kek/rotate", map[string]any{"provider": enginetest.ProviderName})
				require.Error(t, err)
				m.Storage.Fail(nil)
				w.Put("b", "1")
				enginetest.Advance(time.Minute)
				m.Disk.RestartVault()
				w = openedAnew(w)
				enginetest.Advance(time.Minute)
				w.ReadsBack()
				w.AtRest()
			})
		}
	}
}
