// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package backend

import (
	"context"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/vault/sdk/logical"
	"github.com/stretchr/testify/require"

	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/storagetest"
)

// deleteAs deletes the tenant, by a request of that ID.
func (m *mount) deleteAs(id string, window any) int {
	return code(m.callAs(id, del, tenantPath(""), map[string]any{"deletion_window": window}))
}

// Vault repeats a request, with the same ID, after the plugin has crashed. A repeated
// DELETE deletes nothing more, whatever others have done meanwhile.
func TestRepeatedDelete(t *testing.T) {
	for name, c := range map[string]struct {
		window    any
		meanwhile func(*witness)
		answer    int
		state     string
	}{
		"nothing, at once":        {0, func(*witness) {}, 200, ""},
		"created anew":            {0, func(w *witness) { w.must(update, tenantPath(""), nil) }, 200, "active"},
		"created anew, deleting":  {0, func(w *witness) { w.must(update, tenantPath(""), nil); w.must(del, tenantPath(""), nil) }, 200, "deleting"},
		"nothing, with a window":  {"48h", func(*witness) { advance(time.Hour) }, 200, "deleting"},
		"restored":                {"48h", (*witness).restore, 409, "active"},
		"restored, deleted again": {"48h", func(w *witness) { w.restore(); w.must(del, tenantPath(""), nil) }, 200, "deleting"},
		"given a shorter window":  {"48h", func(w *witness) { w.must(del, tenantPath(""), map[string]any{"deletion_window": "1h"}) }, 200, "deleting"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWitness(newMount(t))
				w.create()
				require.Equal(t, 200, w.deleteAs("the same", c.window))
				c.meanwhile(w)
				w.crash()
				w = w.on(openMount(t, w.disk, 0, storagetest.None))
				defer w.close()
				before, err := w.call(read, tenantPath(""), nil)
				require.Equal(t, c.answer, w.deleteAs("the same", c.window))
				advance(time.Minute)
				if c.state == "" {
					require.Equal(t, 404, code(before, err))
					w.refused(404, "tenant not found", del, tenantPath(""), nil)
					return
				}
				require.Equal(t, c.state, before.Data["state"])
				require.Equal(t, before.Data, w.must(read, tenantPath(""), nil))
			})
		})
	}
}

// A DELETE at once that met a fault goes on when it is repeated, and answers when the
// keys are gone.
func TestRepeatedDeleteGoesOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := filled(t, 8)
		defer w.close()
		w.storage.Fail(on("delete", "keys/", storagetest.Before))
		require.Equal(t, 500, w.deleteAs("the same", 0))
		require.NotEmpty(t, w.disk.Keys("keys/"))
		w.storage.Fail(on("delete", "pages/", storagetest.Before))
		require.Equal(t, 200, w.deleteAs("the same", 0))
		require.Empty(t, w.disk.Keys("keys/"))
		w.storage.Fail(nil)
		w.tick()
		require.Empty(t, w.disk.Keys("pages/"))
	})
}

// A restore that comes between the marks of a DELETE at once wins, and the DELETE says
// so.
func TestRestoreWinsOverADelete(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := filled(t, 8)
		w.close()
		w = w.on(openMount(t, w.disk, 0, storagetest.None)) // its items are not counted
		defer w.close()
		restored := false
		w.storage.Hook(func(op, key string) {
			if op == "list" && strings.HasPrefix(key, "pages/") && !restored {
				_, restored, _ = w.b.deletion.Restore(context.Background(), testTenant)
			}
		})
		resp, err := w.call(del, tenantPath(""), map[string]any{"deletion_window": 0})
		require.Equal(t, 409, code(resp, err))
		require.ErrorContains(t, err, "restored since")
		w.storage.Hook(nil)
		require.True(t, restored)
		advance(time.Minute)
		w.readsBack()
	})
}

// An engine that hangs in a commit, and was replaced meanwhile, does not put its record
// over what the new one has written.
func TestHungCommitLooksAtItsContext(t *testing.T) {
	for name, hang := range map[string]string{"rotate": "keys/", "create": "keys/"} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				m := newMount(t)
				path := tenantPath("")
				if name == "rotate" {
					m.must(update, tenantPath(""), nil)
					path = tenantPath("/dek/rotate")
				}
				before := m.disk.Keys("tenants/")
				ctx, end := context.WithCancel(context.Background())
				m.storage.Done(func(op, key string) {
					if op == "put" && strings.HasPrefix(key, hang) {
						end()
					}
				})
				_, err := m.b.HandleRequest(ctx, &logical.Request{
					ID: m.requestID(), Operation: update, Path: path, Data: map[string]any{}, Storage: m.storage, DisplayName: "root",
				})
				m.storage.Done(nil)
				require.Error(t, err)
				advance(time.Minute)
				require.Equal(t, before, m.disk.Keys("tenants/"))
				if name == "rotate" {
					require.Len(t, m.must(read, tenantPath("/dek"), nil)["versions"], 1)
				}
				m.close()
			})
		})
	}
}
