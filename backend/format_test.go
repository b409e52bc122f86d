// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package backend_test

import (
	"context"
	"errors"
	"maps"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/vault/sdk/logical"
	"github.com/stretchr/testify/require"

	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/enginetest"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/storagetest"
)

func everyEntry(disk *storagetest.Disk) map[string]string {
	entries := map[string]string{}
	for _, key := range disk.Keys("") {
		entries[key] = string(disk.Value(key))
	}
	return entries
}

// requestsOfAllKinds are read, write and list paths of every room.
func requestsOfAllKinds() map[string][]logical.Operation {
	const unknown = "tenants/00000000-0000-4000-8000-000000000000"
	return map[string][]logical.Operation{
		enginetest.ItemPath("item-0"):        {enginetest.Read, enginetest.Update, logical.PatchOperation, enginetest.Delete},
		enginetest.TenantPath(""):            {enginetest.Read, enginetest.Update, enginetest.Delete},
		enginetest.TenantPath("/dek/rotate"): {enginetest.Update},
		enginetest.TenantPath("/encrypt"):    {enginetest.Update},
		"config":                             {enginetest.Read, enginetest.Update},
		"key/rotationSettings":               {enginetest.Read, enginetest.Update},
		"kek/rotate":                         {enginetest.Update},
		"status":                             {enginetest.Read},
		"tenants":                            {enginetest.List},
		"evidence/tlog/checkpoint":           {enginetest.Read},
		"data/" + enginetest.TenantID + "/secrets/item-0": {enginetest.Read, enginetest.Update},
		unknown:                     {enginetest.Update},
		unknown + "/secrets/item-0": {enginetest.Read},
	}
}

// refusedByAll asks for everything, with Vault's tick in between.
func refusedByAll(m *enginetest.Mount) {
	m.T.Helper()
	for path, ops := range requestsOfAllKinds() {
		for _, op := range ops {
			resp, err := m.Call(op, path, enginetest.Secret("v"))
			require.Equal(m.T, 503, enginetest.Code(resp, err), "%s %s: %v", op, path, err)
			require.ErrorContains(m.T, err, "newer version of the plugin", "%s %s", op, path)
		}
		m.Tick()
	}
}

// TestNewerFormatIsRefused opens storage that a later version has written: every request
// is refused, and nothing is done in the background, not even what is under way or due.
func TestNewerFormatIsRefused(t *testing.T) {
	enginetest.InRotation(t, func(w *enginetest.Oracle, _ string) {
		w.Crash()
		disk := w.Disk
		disk.RestartVault()
		for _, format := range []string{`{"format":2}`, `{"format":99,"more":true}`, `{"format":0}`, `{"format":"2"}`, "\x00"} {
			disk.Set("format", []byte(format))
			before := everyEntry(disk)
			m := enginetest.OpenMount(t, disk, 0, storagetest.None)
			enginetest.Advance(time.Hour)
			refusedByAll(m)
			m.Close()
			require.Equal(t, before, everyEntry(disk), format)
		}

		disk.Set("format", []byte(`{"format":1}`))
		m := enginetest.OpenMount(t, disk, 0, storagetest.None)
		m.Tick()
		require.Equal(t, "completed", m.RotationsOf(enginetest.TenantID)[0]["status"])
		m.Close()
	})
}

// Nothing is written before the format was read, and no start waits for that. A request
// that comes first waits for it as long as its own context lasts.
func TestNothingIsWrittenBeforeTheFormatIsRead(t *testing.T) {
	enginetest.InRotation(t, func(w *enginetest.Oracle, _ string) {
		w.Crash()
		disk := w.Disk
		disk.RestartVault()
		before := everyEntry(disk)
		m := enginetest.Conditions{}.Open(t, disk, 0, storagetest.None)
		read := make(chan struct{})
		m.Storage.Hook(func(op, key string) {
			if op == "get" && key == "format" {
				<-read
			}
		})
		m.Start()
		m.Tick()
		enginetest.Advance(time.Hour)
		require.True(t, maps.Equal(before, everyEntry(disk)), "something was written")
		for _, op := range m.Storage.Log() {
			require.Equal(t, "get format", op)
		}
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		_, err := m.Engine.HandleRequest(ctx, &logical.Request{Operation: enginetest.Read, Path: "config", Storage: m.Storage})
		require.Error(t, err)
		require.ErrorIs(t, ctx.Err(), context.DeadlineExceeded)

		close(read)
		synctest.Wait()
		m.Tick()
		enginetest.Advance(time.Minute)
		require.Equal(t, "completed", m.RotationsOf(enginetest.TenantID)[0]["status"])
		m.Close()
	})
}

// Storage that fails while the format is read is tried again; another node's write of it
// is seen.
func TestFormatIsReadAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		disk := storagetest.NewDisk()
		m := enginetest.Conditions{}.Open(t, disk, 0, storagetest.None)
		m.Storage.Outage(errors.New("storage is away"), false)
		m.Start()
		enginetest.Advance(time.Minute)
		m.Storage.Outage(nil, false)
		enginetest.Advance(time.Minute)
		m.Must(enginetest.Update, enginetest.TenantPath(""), nil)

		disk.Set("format", []byte(`{"format":2}`))
		m.Must(enginetest.Read, enginetest.TenantPath(""), nil)
		m.Engine.InvalidateKey(context.Background(), "format")
		refusedByAll(m)
		m.Close()
	})
}
