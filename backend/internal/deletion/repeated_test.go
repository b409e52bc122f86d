// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package deletion_test

import (
	"context"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/vault/sdk/logical"
	"github.com/stretchr/testify/require"

	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/enginetest"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/storagetest"
)

// deleteAs deletes the tenant, by a request of that ID.
func deleteAs(m *enginetest.Mount, id string, window any) int {
	return enginetest.Code(m.CallAs(id, enginetest.Delete, enginetest.TenantPath(""), map[string]any{"deletion_window": window}))
}

// Vault repeats a request, with the same ID, after the plugin has crashed. A repeated
// DELETE deletes nothing more, whatever others have done meanwhile.
func TestRepeatedDelete(t *testing.T) {
	for name, c := range map[string]struct {
		window    any
		meanwhile func(*enginetest.Oracle)
		answer    int
		state     string
	}{
		"nothing, at once": {0, func(*enginetest.Oracle) {}, 200, ""},
		"created anew":     {0, func(w *enginetest.Oracle) { w.Must(enginetest.Update, enginetest.TenantPath(""), nil) }, 200, "active"},
		"created anew, deleting": {0, func(w *enginetest.Oracle) {
			w.Must(enginetest.Update, enginetest.TenantPath(""), nil)
			w.Must(enginetest.Delete, enginetest.TenantPath(""), nil)
		}, 200, "deleting"},
		"nothing, with a window":  {"48h", func(*enginetest.Oracle) { enginetest.Advance(time.Hour) }, 200, "deleting"},
		"restored":                {"48h", (*enginetest.Oracle).Restore, 409, "active"},
		"restored, deleted again": {"48h", func(w *enginetest.Oracle) { w.Restore(); w.Must(enginetest.Delete, enginetest.TenantPath(""), nil) }, 200, "deleting"},
		"given a shorter window": {"48h", func(w *enginetest.Oracle) {
			w.Must(enginetest.Delete, enginetest.TenantPath(""), map[string]any{"deletion_window": "1h"})
		}, 200, "deleting"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := enginetest.NewOracle(enginetest.NewMount(t))
				w.Create()
				require.Equal(t, 200, deleteAs(w.Mount, "the same", c.window))
				c.meanwhile(w)
				w.Crash()
				w = w.On(enginetest.OpenMount(t, w.Disk, 0, storagetest.None))
				defer w.Close()
				before, err := w.Call(enginetest.Read, enginetest.TenantPath(""), nil)
				require.Equal(t, c.answer, deleteAs(w.Mount, "the same", c.window))
				enginetest.Advance(time.Minute)
				if c.state == "" {
					require.Equal(t, 404, enginetest.Code(before, err))
					w.Refused(404, "tenant not found", enginetest.Delete, enginetest.TenantPath(""), nil)
					return
				}
				require.Equal(t, c.state, before.Data["state"])
				require.Equal(t, before.Data, w.Must(enginetest.Read, enginetest.TenantPath(""), nil))
			})
		})
	}
}

// A DELETE at once that met a fault goes on when it is repeated, and answers when the
// keys are gone.
func TestRepeatedDeleteGoesOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := enginetest.Filled(t, 8)
		defer w.Close()
		w.Storage.Fail(enginetest.FailOn("delete", "keys/", storagetest.Before))
		require.Equal(t, 500, deleteAs(w.Mount, "the same", 0))
		require.NotEmpty(t, w.Disk.Keys("keys/"))
		w.Storage.Fail(enginetest.FailOn("delete", "pages/", storagetest.Before))
		require.Equal(t, 200, deleteAs(w.Mount, "the same", 0))
		require.Empty(t, w.Disk.Keys("keys/"))
		w.Storage.Fail(nil)
		w.Tick()
		require.Empty(t, w.Disk.Keys("pages/"))
	})
}

// DELETEs at once that come together wait for one end: none is told to ask again, and none
// is answered while keys are there.
func TestConcurrentDeletesAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := enginetest.Filled(t, 8)
		defer w.Close()
		w.Storage.Hook(func(op, key string) {
			if op == "delete" && strings.HasPrefix(key, "keys/") {
				<-time.After(time.Second)
			}
		})
		answers, keys := make([]int, 8), make([]int, 8)
		var all sync.WaitGroup
		for i := range answers {
			all.Go(func() {
				<-time.After(time.Duration(i) * 100 * time.Millisecond)
				answers[i] = deleteAs(w.Mount, w.RequestID(), 0)
				keys[i] = len(w.Disk.Keys("keys/"))
			})
		}
		all.Wait()
		for i := range answers {
			require.Contains(t, []int{200, 404}, answers[i], "request %d", i)
			require.Zero(t, keys[i], "request %d", i)
		}
		require.Equal(t, 200, answers[0])
		w.Storage.Hook(nil)
		w.Must(enginetest.Update, enginetest.TenantPath(""), nil)
		require.Equal(t, 200, deleteAs(w.Mount, w.RequestID(), 0), "that of the same ID")
		w.Refused(404, "tenant not found", enginetest.Read, enginetest.TenantPath(""), nil)
	})
}

// A restore that comes between the marks of a DELETE at once wins, and the DELETE says
// so.
func TestRestoreWinsOverADelete(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := enginetest.Filled(t, 8)
		w.Close()
		w = w.On(enginetest.OpenMount(t, w.Disk, 0, storagetest.None)) // its items are not counted
		defer w.Close()
		restored := false
		w.Storage.Hook(func(op, key string) {
			if op == "list" && strings.HasPrefix(key, "pages/") && !restored {
				_, restored, _ = w.Engine.Deletion.Restore(context.Background(), enginetest.TenantID)
			}
		})
		resp, err := w.Call(enginetest.Delete, enginetest.TenantPath(""), map[string]any{"deletion_window": 0})
		require.Equal(t, 409, enginetest.Code(resp, err))
		require.ErrorContains(t, err, "restored since")
		w.Storage.Hook(nil)
		require.True(t, restored)
		enginetest.Advance(time.Minute)
		w.ReadsBack()
	})
}

// An engine that hangs in a commit, and was replaced meanwhile, does not put its record
// over what the new one has written.
func TestHungCommitLooksAtItsContext(t *testing.T) {
	for name, hang := range map[string]string{"rotate": "keys/", "create": "keys/"} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				m := enginetest.NewMount(t)
				path := enginetest.TenantPath("")
				if name == "rotate" {
					m.Must(enginetest.Update, enginetest.TenantPath(""), nil)
					path = enginetest.TenantPath("/dek/rotate")
				}
				before := m.Disk.Keys("tenants/")
				ctx, end := context.WithCancel(context.Background())
				m.Storage.Done(func(op, key string) {
					if op == "put" && strings.HasPrefix(key, hang) {
						end()
					}
				})
				_, err := m.Engine.HandleRequest(ctx, &logical.Request{
					ID: m.RequestID(), Operation: enginetest.Update, Path: path, Data: map[string]any{}, Storage: m.Storage, DisplayName: "root",
				})
				m.Storage.Done(nil)
				require.Error(t, err)
				enginetest.Advance(time.Minute)
				require.Equal(t, before, m.Disk.Keys("tenants/"))
				if name == "rotate" {
					require.Len(t, m.Must(enginetest.Read, enginetest.TenantPath("/dek"), nil)["versions"], 1)
				}
				m.Close()
			})
		})
	}
}
