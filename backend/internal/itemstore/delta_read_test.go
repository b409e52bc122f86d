// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package itemstore_test

import (
	"context"
	"path"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/enginetest"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/storagetest"
)

// A reader that is slow between its two reads shows what was acknowledged before it
// began, whatever is put meanwhile.
func TestReaderBetweenADeltaAndItsPage(t *testing.T) {
	w := ofOnePage(t)
	w.Put("bulk/1", "acknowledged")
	require.Len(t, w.DeltaKeys(), 1)
	for _, key := range w.Disk.Keys("pages/") {
		w.Engine.InvalidateKey(context.Background(), key) // nothing is cached any more
	}
	reading, readOn := w.StopAfter("get")
	reader := w.Concurrently(enginetest.Read, enginetest.ItemPath("bulk/1"), nil)
	<-reading
	require.Equal(t, "pd", puts(w.Mount, func() {
		w.Put("bulk/2", "puts the page")
		w.Put("bulk/2", "and its delta")
	}))
	readOn()
	got := <-reader
	require.NoError(t, got.Err)
	require.Equal(t, "acknowledged", got.Resp.Data["data"].(map[string]any)["value"])
}

// A List that was taken before a page's first delta must not be believed after it.
func TestListBegunBeforeTheFirstDelta(t *testing.T) {
	w := ofOnePage(t)
	writing, write := w.StopBefore("put")
	written := w.Concurrently(enginetest.Update, enginetest.ItemPath("bulk/1"), enginetest.Secret("precious"))
	<-writing
	w.DropPages()
	listing, install := w.StopAfter("list")
	counted := w.Concurrently(enginetest.Read, enginetest.TenantPath(""), nil)
	<-listing
	write()
	require.NoError(t, (<-written).Err)
	require.Len(t, w.DeltaKeys(), 1)
	install()
	require.NoError(t, (<-counted).Err)
	require.Equal(t, "precious", w.Value("bulk/1"))
}

// A request that is repeated after a restart may find itself done where Vault's cache
// shows a page that is not stored any more, with its delta, which is: it is
// acknowledged only once it is stored.
func TestRepeatedRequestBehindAStalePage(t *testing.T) {
	for name, stale := range map[string][]string{
		"beside its delta": {"d", "p"},
		"without one":      {"p", "p"},
	} {
		t.Run(name, func(t *testing.T) {
			w := ofOnePage(t)
			w.Put("bulk/1", "first delta")
			page, delta := w.PageKeys()[0], w.DeltaKeys()[0]
			if stale[0] == "p" {
				w.Remove("bulk/7") // the page is put, and then another process comes
				w = enginetest.NewOracle(enginetest.OpenMount(t, w.Disk, 0, storagetest.None))
				t.Cleanup(w.Close)
			}
			for i, r := range []struct{ id, item, value string }{
				{"R1", "bulk/2", "repeated"}, {"R2", "bulk/3", "fails"},
			} {
				w.Storage.Fail(func(op, key string) storagetest.Fault {
					if op == "put" && strings.HasPrefix(path.Base(key), stale[i]) {
						// Vault's cache drops what it hid before this write, after its reading.
						w.Disk.Set(key, w.Disk.Value(key))
						return storagetest.AfterStale
					}
					return storagetest.None
				})
				_, err := w.CallAs(r.id, enginetest.Update, enginetest.ItemPath(r.item), enginetest.Secret(r.value))
				require.Error(t, err)
				w.Storage.Fail(nil)
			}
			w.Disk.Set(delta, w.Disk.Value(delta)) // Vault's cache drops the delta, not the page
			second := enginetest.OpenMount(t, w.Disk, 0, storagetest.None)
			defer second.Close()
			_, err := second.CallAs("R1", enginetest.Update, enginetest.ItemPath("bulk/2"), enginetest.Secret("repeated"))
			require.NoError(t, err)
			require.Equal(t, "repeated", second.Value("bulk/2"))
			w.Disk.Set(page, w.Disk.Value(page)) // and then the page
			third := enginetest.OpenMount(t, w.Disk, 0, storagetest.None)
			defer third.Close()
			require.Equal(t, "repeated", third.Value("bulk/2"))
		})
	}
}

// A reader on its way to a page that splits meanwhile, whose deletion then fails
// behind a stale cache, is not shown that page without the delta that a rotation
// deletes.
func TestReaderBesideADeltaWithoutItsPage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := enginetest.Filled(t, 8)
		defer w.Close()
		w.Must(enginetest.Update, "config", map[string]any{"retired_key_retention": "168h"})
		w.Put("bulk/1", "older")
		w.Put("bulk/1", "acknowledged")
		delta := w.DeltaKeys()[0]
		for _, key := range w.Disk.Keys("pages/") {
			w.Engine.InvalidateKey(context.Background(), key)
		}
		var came atomic.Bool
		reached, on := make(chan struct{}), make(chan struct{})
		w.Storage.Hook(func(op, key string) {
			if op == "get" && key == delta && came.CompareAndSwap(false, true) {
				close(reached)
				<-on
			}
		})
		reader := w.Concurrently(enginetest.Read, enginetest.ItemPath("bulk/1"), nil)
		<-reached
		w.Storage.Fail(func(op, key string) storagetest.Fault {
			if op == "delete" && strings.HasPrefix(path.Base(key), "p") {
				return storagetest.AfterStale
			}
			return storagetest.None
		})
		w.Put("splits", enginetest.Filler("splits", 20_000))
		w.Storage.Fail(nil)
		w.Rotate()
		enginetest.Advance(10 * time.Millisecond)
		require.NotContains(t, w.DeltaKeys(), delta)
		close(on)
		got := <-reader
		require.NoError(t, got.Err)
		require.Equal(t, "acknowledged", got.Resp.Data["data"].(map[string]any)["value"])
	})
}

// A page that readers are shown from the engine's own cache, and that a write whose
// error hid its effect has replaced, is not shown without its delta either.
func TestCachedPageIsNotShownWithoutItsDelta(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := enginetest.Filled(t, 8)
		defer w.Close()
		_, release := w.HoldRotation()
		w.Put("bulk/1", "puts the page, on the new version")
		w.Put("bulk/1", "acknowledged")
		require.Len(t, w.DeltaKeys(), 1)
		page := w.PageKeys()[0]
		w.Storage.Fail(enginetest.FailOn("put", page, storagetest.AfterStale))
		w.Remove("bulk/7")
		w.Storage.Fail(nil)
		require.Equal(t, "acknowledged", w.Value("bulk/1")) // keeps the page that is not stored any more
		w.Disk.Set(page, w.Disk.Value(page))                // Vault's cache drops it
		release()
		enginetest.Advance(time.Minute)
		require.Empty(t, w.DeltaKeys())
		require.Equal(t, "acknowledged", w.Value("bulk/1"))
		w.ReadsBack()
	})
}
