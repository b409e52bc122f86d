// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package itemstore_test

import (
	"context"
	"fmt"
	"path"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/enginetest"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/storagetest"
)

// puts runs f and returns the kinds of pages/ entries that it put, in their order: p
// for a page, d for a delta.
func puts(m *enginetest.Mount, f func()) (kinds string) {
	var mu sync.Mutex // several pages may be put at once
	m.Storage.Hook(func(op, key string) {
		mu.Lock()
		defer mu.Unlock()
		if op == "put" && strings.HasPrefix(key, "pages/") {
			kinds += path.Base(key)[:1]
		}
	})
	defer m.Storage.Hook(nil)
	f()
	return kinds
}

// ofOnePage is a tenant with 24 KB on its page, which this process has put since it
// started.
func ofOnePage(t *testing.T) *enginetest.Oracle {
	t.Helper()
	w := enginetest.SmallTenant(t)
	t.Cleanup(w.Close)
	require.Len(t, w.PageKeys(), 1)
	return w
}

func TestSmallChangesGoToTheDelta(t *testing.T) {
	w := ofOnePage(t)
	put := func(items ...string) string {
		return puts(w.Mount, func() {
			for _, item := range items {
				w.Put(item, "short")
			}
		})
	}
	require.Equal(t, "d", put("bulk/1"), "an item that is there")
	require.Equal(t, "d", put("new"), "an item that is not")
	require.Equal(t, "ddd", put("new", "new", "new"), "the same again")
	require.Equal(t, "p", puts(w.Mount, func() { w.Remove("bulk/2") }), "what is removed")
	require.Equal(t, "d", put("bulk/3"))
	require.Equal(t, "p", puts(w.Mount, func() { w.Put("bulk/4", enginetest.Filler("large", 15_000)) }), "more than half of the page")
	kinds := puts(w.Mount, func() {
		for i := range 9 {
			w.Put(fmt.Sprintf("many/%d", i), enginetest.Filler("x", 500))
		}
	})
	require.Regexp(t, "^d{4,9}p", kinds, "once the changes have cost half of what the page does")
	w.ReadsBack()

	re := enginetest.NewOracle(enginetest.OpenMount(t, w.Disk, 0, storagetest.None))
	defer re.Close()
	re.Allowed, re.Created = w.Allowed, true
	re.ReadsBack() // the items, their list, and how many there are
	require.Equal(t, "pd", puts(re.Mount, func() {
		re.Put("bulk/1", "first")
		re.Put("bulk/1", "second")
	}), "a page that another process has put is put once")
	re.Storage.Fail(enginetest.FailOn("put", "pages/", storagetest.Before))
	re.Put("bulk/1", "fails")
	re.Storage.Fail(nil)
	require.Equal(t, "pd", puts(re.Mount, func() {
		re.Put("bulk/1", "third")
		re.Put("bulk/1", "fourth")
	}), "after a write that failed")
	re.ReadsBack()
}

func TestSmallPagesHaveNoDeltas(t *testing.T) {
	m := enginetest.WithTenant(t)
	require.Equal(t, "pppp", puts(m, func() {
		for range 4 {
			m.Must(enginetest.Update, enginetest.ItemPath("x"), enginetest.Secret(enginetest.Filler("x", 1000)))
		}
	}))
}

// A rotation leaves no delta that was put before it, also where it does not move the
// page itself.
func TestRotationTakesDeltasIntoTheirPages(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := enginetest.Filled(t, 30)
		defer w.Close()
		for i := range 6 {
			w.Put(fmt.Sprintf("bulk/%d", i), "short")
		}
		before := w.DeltaKeys()
		require.NotEmpty(t, before)
		_, release := w.HoldRotation()
		w.Put("bulk/1", "beside it") // its page is on the new version now, the delta is not
		release()
		enginetest.Advance(time.Minute)
		for _, key := range w.DeltaKeys() {
			require.Equal(t, 2, enginetest.VersionOf(w.Disk.Value(key)), "%s is of before", key)
		}
		w.ReadsBack()
		w.AtRest()
		w.Works()
	})
}

// What a split could not delete, or what broke off before it did, goes with the next
// rotation.
func TestDeltaWithoutItsPageIsDeleted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := enginetest.Filled(t, 8)
		defer w.Close()
		w.Put("bulk/1", "short")
		w.Put("bulk/1", "shorter")
		require.Len(t, w.DeltaKeys(), 1)
		w.Storage.Fail(func(op, key string) storagetest.Fault {
			if op == "delete" && strings.HasPrefix(path.Base(key), "d") {
				return storagetest.Before
			}
			return storagetest.None
		})
		w.Put("splits", enginetest.Filler("splits", 20_000))
		require.Len(t, w.Allowed["splits"], 1, "the write itself is done")
		w.Storage.Fail(nil)
		require.Len(t, w.DeltaKeys(), 1)
		w.ReadsBack()
		w.Rotate()
		enginetest.Advance(time.Minute)
		require.Empty(t, w.DeltaKeys())
		w.ReadsBack()
		w.AtRest()
	})
}

// A page whose header alone is damaged is found by a rotation also where its delta
// says which version it is on.
func TestDamagedHeaderBesideADelta(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := enginetest.Filled(t, 8)
		defer w.Close()
		_, release := w.HoldRotation()
		w.Put("bulk/1", "puts the page, on the new version")
		w.Put("bulk/1", "its delta")
		require.Len(t, w.DeltaKeys(), 1)
		key := w.PageKeys()[0]
		page := w.Disk.Value(key)
		page[0]++
		w.Disk.Set(key, page)
		release()
		enginetest.Advance(time.Minute)
		require.Equal(t, "failed", w.Status(w.Rotations[0])["status"])
	})
}

func TestDamagedDelta(t *testing.T) {
	for name, damage := range map[string]func(delta []byte) []byte{
		"a bit of what is sealed": func(delta []byte) []byte { delta[len(delta)-1] ^= 1; return delta },
		"the count":               func(delta []byte) []byte { delta[enginetest.HeaderLength-1]++; return delta },
		"the version":             func(delta []byte) []byte { delta[4]++; return delta },
		"the format":              func(delta []byte) []byte { delta[0]++; return delta },
		"cut off":                 func(delta []byte) []byte { return delta[:enginetest.HeaderLength+3] },
		"empty":                   func([]byte) []byte { return []byte{} },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := enginetest.Filled(t, 8)
				w.Put("bulk/1", "a value that is short")
				w.Put("bulk/1", "another")
				w.Close()
				key := w.DeltaKeys()[0]
				whole := w.Disk.Value(key)
				w.Disk.Set(key, damage(slices.Clone(whole)))
				re := enginetest.OpenMount(t, w.Disk, 0, storagetest.None)
				defer re.Close()
				for _, item := range []string{"bulk/1", "bulk/2"} {
					resp, err := re.Call(enginetest.Read, enginetest.ItemPath(item), nil)
					require.Equal(t, 500, enginetest.Code(resp, err))
					require.ErrorContains(t, err, "does not open")
				}
				id := re.Must(enginetest.Update, enginetest.TenantPath("/dek/rotate"), nil)["rotation_id"].(string)
				enginetest.Advance(time.Minute)
				require.Equal(t, "failed", re.Status(id)["status"])

				re.Disk.Set(key, whole)
				re.Engine.InvalidateKey(context.Background(), key)
				require.Equal(t, "another", re.Value("bulk/1"))
				re.Must(enginetest.Update, enginetest.TenantPath("/dek/rotations/"+id+"/retry"), nil)
				enginetest.Advance(time.Minute)
				require.Equal(t, "completed", re.Status(id)["status"])
				require.Equal(t, "another", re.Value("bulk/1"))
			})
		})
	}
}

// A delta counts with the page alone that it names: not at another place, and not
// with the page as it was put again.
func TestDeltaOfAnotherPutDoesNotCount(t *testing.T) {
	w := ofOnePage(t)
	w.Put("bulk/1", "the first delta")
	key := w.DeltaKeys()[0]
	first := w.Disk.Value(key)
	w.Remove("bulk/2") // puts the page
	w.Put("bulk/1", "the second delta")
	w.Disk.Set(key, first)
	re := enginetest.OpenMount(t, w.Disk, 0, storagetest.None)
	defer re.Close()
	require.Equal(t, "the first delta", re.Value("bulk/1"), "as the page has it")
	resp, err := re.Call(enginetest.Read, enginetest.ItemPath("bulk/2"), nil)
	require.Equal(t, 404, enginetest.Code(resp, err))
}
