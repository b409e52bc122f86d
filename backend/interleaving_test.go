// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package backend

import (
	"context"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/vault/sdk/framework"
	"github.com/stretchr/testify/require"

	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/storagetest"
)

// rotateAndHold starts a rotation and holds its sweep where it has listed the
// pages and waits for a place in the pool, of which there is one.
func rotateAndHold(m *mount) (rotation string, release func()) {
	<-m.b.Pages.Request()
	rotation = m.must(update, tenantPath("/dek/rotate"), nil)["rotation_id"].(string)
	synctest.Wait()
	return rotation, m.b.Pages.Release
}

// onPage calls f before operations of that name on pages.
func (m *mount) onPage(name string, f func()) {
	m.storage.Hook(func(op, key string) {
		if op == name && strings.HasPrefix(key, "pages/") {
			f()
		}
	})
}

// filled is a mount with a tenant of n items of 3 KB.
func filled(t *testing.T, n int) *witness {
	t.Helper()
	m := newMount(t)
	slowly(m)
	w := newWitness(m)
	w.create()
	w.bulk(n, 3000)
	return w
}

// A page that splits between being listed and being moved may, if the deletion
// of it failed with effect, still show behind a stale cache. Moving it would
// bring it back over its children and what was acknowledged there.
func TestMoveDoesNotBringASplitPageBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := filled(t, 8)
		id, release := rotateAndHold(w.mount)
		w.storage.Fail(on("delete", "pages/", storagetest.AfterStale))
		w.put("splits", filler("b", 12000))
		require.Len(t, w.allowed["splits"], 2, "the write that splits is to fail")
		w.storage.Fail(nil)
		w.put("acknowledged", "precious")
		w.put("bulk/0", "new value")
		release()
		advance(time.Minute)
		require.Equal(t, "completed", w.status(id)["status"])
		w.readsBack()
		w.atRest()
		w.close()
	})
}

// A first write that failed with effect is hidden by Vault's cache, and shows
// once the cache drops it: also between two looks of the sweep at the page.
func TestHiddenPageThatShowsIsMoved(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := filled(t, 0)
		w.storage.Fail(on("put", "pages/", storagetest.AfterStale))
		w.put("first", "x")
		w.storage.Fail(nil)
		w.must(read, tenantPath(""), nil) // loads the directory
		id, release := rotateAndHold(w.mount)
		var looks atomic.Int64
		w.onPage("get", func() {
			if looks.Add(1) == 2 {
				w.disk.RestartVault()
			}
		})
		release()
		advance(time.Minute)
		w.storage.Hook(nil)
		require.Equal(t, "completed", w.status(id)["status"])
		w.put("second", "x")
		w.readsBack()
		w.atRest()
		w.close()
	})
}

// A list taken while the directory is dropped is not empty.
func TestListBesideADroppedDirectory(t *testing.T) {
	m := withTenant(t)
	m.must(update, itemPath("a"), secret("a"))
	page := m.disk.Keys("pages/")[0]
	dropping := m.storage
	dropping.Hook(func(op, _ string) {
		if op == "list" { // as the directory is being loaded
			m.b.InvalidateKey(context.Background(), page)
			dropping.Hook(nil)
		}
	})
	m.b.InvalidateKey(context.Background(), page)
	require.Equal(t, []string{"a"}, m.must(list, tenantPath("/secrets/"), nil)["keys"])
}

// A key entry that does not open is as good as a page that does not: it is
// reported, and the rotation ends.
func TestDamagedKeyFailsARotation(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := filled(t, 1)
		w.close()
		for _, key := range w.disk.Keys("keys/") {
			if strings.Contains(key, "/dek-") {
				value := w.disk.Value(key)
				value[len(value)-1] ^= 1
				w.disk.Set(key, value)
			}
		}
		m := openMount(t, w.disk, 0, storagetest.None)
		defer m.close()
		id := m.must(update, tenantPath("/dek/rotate"), nil)["rotation_id"].(string)
		advance(time.Minute)
		require.Equal(t, "failed", m.status(id)["status"])
	})
}

// The accounts of a failed rotation are right though a restart interrupted it.
func TestFailedRotationCountsAcrossARestart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := filled(t, 40)
		w.damage()
		id, release := rotateAndHold(w.mount)
		w.storage.Kill()
		release()
		w.close()
		m := openMount(t, w.disk, 0, storagetest.None)
		defer m.close()
		advance(time.Minute)
		st := m.status(id)
		require.Equal(t, "failed", st["status"])
		require.Positive(t, st["items_failed"])
		require.Equal(t, 40, st["items_failed"].(int)+st["items_rotated"].(map[string]int)["secrets"])
	})
}

// What a rotation has done does not go back while pages split beside it.
func TestProgressDoesNotGoBack(t *testing.T) {
	inRotation(t, func(w *witness, id string) {
		last := 0
		for i := range 20 {
			w.put(fmt.Sprintf("new/%d", i), filler("splits", 6000))
			rotated := w.status(id)["items_rotated"].(map[string]int)["secrets"]
			require.GreaterOrEqual(t, rotated, last)
			last = rotated
		}
		require.Positive(t, last)
	})
}

// One entry of the log that cannot be read keeps no other from being taken up.
func TestMalformedLogEntryIsPassedOver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := filled(t, 4)
		id, release := rotateAndHold(w.mount)
		w.storage.Kill()
		release()
		w.close()
		_, err := framework.PutWAL(context.Background(), storagetest.Open(w.disk, 0, storagetest.None), "rotation", map[string]any{"key_id": 1})
		require.NoError(t, err)
		m := openMount(t, w.disk, 0, storagetest.None)
		defer m.close()
		advance(time.Minute)
		require.Equal(t, "completed", m.status(id)["status"])
		require.Nil(t, m.must(list, "rotations/", nil)["keys"])
	})
}

// The requests that Vault sends again after a crash change nothing more.
func TestRepeatedBulkWriteChangesNothingMore(t *testing.T) {
	m := withTenant(t)
	entry := func(v string, cas any) map[string]any {
		return map[string]any{"kind": "secrets", "name": "x", "data": map[string]any{"value": v}, "cas": cas}
	}
	body := map[string]any{"items": []any{entry("1", 0), entry("2", 1)}}
	_, err := m.callAs("request-1", update, tenantPath("/items"), body)
	require.NoError(t, err)
	before := m.disk.Clone()
	resp, err := m.callAs("request-1", update, tenantPath("/items"), body)
	require.NoError(t, err)
	for _, r := range resp.Data["results"].([]map[string]any) {
		require.Nil(t, r["error"])
	}
	require.Equal(t, before, m.disk.Clone())
}

func TestPatchKeepsNullsInsideLists(t *testing.T) {
	m := withTenant(t)
	m.must(update, itemPath("x"), map[string]any{"data": map[string]any{"keep": "1"}, "metadata": map[string]any{"m": "1"}})
	m.must("patch", itemPath("x"), map[string]any{
		"data":     map[string]any{"list": []any{map[string]any{"b": nil, "c": 1}}, "keep": map[string]any{"gone": nil, "n": 1}},
		"metadata": nil,
	})
	got := m.must(read, itemPath("x"), nil)
	require.Equal(t, map[string]any{
		"list": []any{map[string]any{"b": nil, "c": 1.0}},
		"keep": map[string]any{"n": 1.0},
	}, got["data"])
	require.Empty(t, got["metadata"])
}
