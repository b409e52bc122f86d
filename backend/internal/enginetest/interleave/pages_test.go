// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package interleave

import (
	"context"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/enginetest"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/storagetest"
)

// A page that splits between being listed and being moved may, if the deletion
// of it failed with effect, still show behind a stale cache. Moving it would
// bring it back over its children and what was acknowledged there.
func TestMoveDoesNotBringASplitPageBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := enginetest.Filled(t, 8)
		id, release := enginetest.RotateAndHold(w.Mount)
		w.Storage.Fail(enginetest.FailOn("delete", "pages/", storagetest.AfterStale))
		w.Put("splits", enginetest.Filler("b", 12000))
		require.Len(t, w.Allowed["splits"], 2, "the write that splits is to fail")
		w.Storage.Fail(nil)
		w.Put("acknowledged", "precious")
		w.Put("bulk/0", "new value")
		release()
		enginetest.Advance(time.Minute)
		require.Equal(t, "completed", w.Status(id)["status"])
		w.ReadsBack()
		w.AtRest()
		w.Close()
	})
}

// A first write that failed with effect is hidden by Vault's cache, and shows
// once the cache drops it: also between two looks of the sweep at the page.
func TestHiddenPageThatShowsIsMoved(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := enginetest.Filled(t, 0)
		w.Storage.Fail(enginetest.FailOn("put", "pages/", storagetest.AfterStale))
		w.Put("first", "x")
		w.Storage.Fail(nil)
		w.Must(enginetest.Read, enginetest.TenantPath(""), nil) // loads the directory
		id, release := enginetest.RotateAndHold(w.Mount)
		var looks atomic.Int64
		w.OnPage("get", func() {
			if looks.Add(1) == 2 {
				w.Disk.RestartVault()
			}
		})
		release()
		enginetest.Advance(time.Minute)
		w.Storage.Hook(nil)
		require.Equal(t, "completed", w.Status(id)["status"])
		w.Put("second", "x")
		w.ReadsBack()
		w.AtRest()
		w.Close()
	})
}

// A list taken while the directory is dropped is not empty.
func TestListBesideADroppedDirectory(t *testing.T) {
	m := enginetest.WithTenant(t)
	m.Must(enginetest.Update, enginetest.ItemPath("a"), enginetest.Secret("a"))
	page := m.Disk.Keys("pages/")[0]
	dropping := m.Storage
	dropping.Hook(func(op, _ string) {
		if op == "list" { // as the directory is being loaded
			m.Engine.InvalidateKey(context.Background(), page)
			dropping.Hook(nil)
		}
	})
	m.Engine.InvalidateKey(context.Background(), page)
	require.Equal(t, []string{"a"}, m.Must(enginetest.List, enginetest.TenantPath("/secrets/"), nil)["keys"])
}
