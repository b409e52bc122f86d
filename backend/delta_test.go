// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package backend

import (
	"bytes"
	"context"
	"fmt"
	"path"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/storagetest"
)

// pageKeys and deltaKeys are the entries of pages, and those of their deltas.
func (m *mount) pageKeys() []string  { return m.named("p") }
func (m *mount) deltaKeys() []string { return m.named("d") }

func (m *mount) named(kind string) []string {
	return slices.DeleteFunc(m.disk.Keys("pages/"), func(key string) bool {
		return !strings.HasPrefix(path.Base(key), kind)
	})
}

// deltaOf is the key of the delta of the page at a key.
func deltaOf(page string) string { return path.Dir(page) + "/d" + path.Base(page)[1:] }

// belongs reports whether a delta names the tag that ends a page.
func belongs(delta, page []byte) bool {
	const tagLength = 16
	return len(delta) > headerLength+tagLength &&
		bytes.Equal(delta[headerLength:][:tagLength], page[len(page)-tagLength:])
}

// puts runs f and returns the kinds of pages/ entries that it put, in their order: p
// for a page, d for a delta.
func (m *mount) puts(f func()) (kinds string) {
	m.storage.Hook(func(op, key string) {
		if op == "put" && strings.HasPrefix(key, "pages/") {
			kinds += path.Base(key)[:1]
		}
	})
	defer m.storage.Hook(nil)
	f()
	return kinds
}

// ofOnePage is a tenant with 24 KB on its page, which this process has put since it
// started.
func ofOnePage(t *testing.T) *witness {
	t.Helper()
	w := smallTenant(t)
	t.Cleanup(w.close)
	require.Len(t, w.pageKeys(), 1)
	return w
}

func TestSmallChangesGoToTheDelta(t *testing.T) {
	w := ofOnePage(t)
	put := func(items ...string) string {
		return w.puts(func() {
			for _, item := range items {
				w.put(item, "short")
			}
		})
	}
	require.Equal(t, "d", put("bulk/1"), "an item that is there")
	require.Equal(t, "d", put("new"), "an item that is not")
	require.Equal(t, "ddd", put("new", "new", "new"), "the same again")
	require.Equal(t, "p", w.puts(func() { w.remove("bulk/2") }), "what is removed")
	require.Equal(t, "d", put("bulk/3"))
	require.Equal(t, "p", w.puts(func() { w.put("bulk/4", filler("large", 15_000)) }), "more than half of the page")
	kinds := w.puts(func() {
		for i := range 9 {
			w.put(fmt.Sprintf("many/%d", i), filler("x", 500))
		}
	})
	require.Regexp(t, "^d{4,9}p", kinds, "once the changes have cost half of what the page does")
	w.readsBack()

	re := newWitness(openMount(t, w.disk, 0, storagetest.None))
	defer re.close()
	re.allowed, re.created = w.allowed, true
	re.readsBack() // the items, their list, and how many there are
	require.Equal(t, "pd", re.puts(func() {
		re.put("bulk/1", "first")
		re.put("bulk/1", "second")
	}), "a page that another process has put is put once")
	re.storage.Fail(on("put", "pages/", storagetest.Before))
	re.put("bulk/1", "fails")
	re.storage.Fail(nil)
	require.Equal(t, "pd", re.puts(func() {
		re.put("bulk/1", "third")
		re.put("bulk/1", "fourth")
	}), "after a write that failed")
	re.readsBack()
}

func TestSmallPagesHaveNoDeltas(t *testing.T) {
	m := withTenant(t)
	require.Equal(t, "pppp", m.puts(func() {
		for range 4 {
			m.must(update, itemPath("x"), secret(filler("x", 1000)))
		}
	}))
}

// A rotation leaves no delta that was put before it, also where it does not move the
// page itself.
func TestRotationTakesDeltasIntoTheirPages(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := filled(t, 30)
		defer w.close()
		for i := range 6 {
			w.put(fmt.Sprintf("bulk/%d", i), "short")
		}
		before := w.deltaKeys()
		require.NotEmpty(t, before)
		_, release := w.holdRotation()
		w.put("bulk/1", "beside it") // its page is on the new version now, the delta is not
		release()
		advance(time.Minute)
		for _, key := range w.deltaKeys() {
			require.Equal(t, 2, versionOf(w.disk.Value(key)), "%s is of before", key)
		}
		w.readsBack()
		w.atRest()
		w.works()
	})
}

// What a split could not delete, or what broke off before it did, goes with the next
// rotation.
func TestDeltaWithoutItsPageIsDeleted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := filled(t, 8)
		defer w.close()
		w.put("bulk/1", "short")
		w.put("bulk/1", "shorter")
		require.Len(t, w.deltaKeys(), 1)
		w.storage.Fail(func(op, key string) storagetest.Fault {
			if op == "delete" && strings.HasPrefix(path.Base(key), "d") {
				return storagetest.Before
			}
			return storagetest.None
		})
		w.put("splits", filler("splits", 20_000))
		require.Len(t, w.allowed["splits"], 1, "the write itself is done")
		w.storage.Fail(nil)
		require.Len(t, w.deltaKeys(), 1)
		w.readsBack()
		w.rotate()
		advance(time.Minute)
		require.Empty(t, w.deltaKeys())
		w.readsBack()
		w.atRest()
	})
}

// A page whose header alone is damaged is found by a rotation also where its delta
// says which version it is on.
func TestDamagedHeaderBesideADelta(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := filled(t, 8)
		defer w.close()
		_, release := w.holdRotation()
		w.put("bulk/1", "puts the page, on the new version")
		w.put("bulk/1", "its delta")
		require.Len(t, w.deltaKeys(), 1)
		key := w.pageKeys()[0]
		page := w.disk.Value(key)
		page[0]++
		w.disk.Set(key, page)
		release()
		advance(time.Minute)
		require.Equal(t, "failed", w.status(w.rotations[0])["status"])
	})
}

func TestDamagedDelta(t *testing.T) {
	for name, damage := range map[string]func(delta []byte) []byte{
		"a bit of what is sealed": func(delta []byte) []byte { delta[len(delta)-1] ^= 1; return delta },
		"the count":               func(delta []byte) []byte { delta[headerLength-1]++; return delta },
		"the version":             func(delta []byte) []byte { delta[4]++; return delta },
		"the format":              func(delta []byte) []byte { delta[0]++; return delta },
		"cut off":                 func(delta []byte) []byte { return delta[:headerLength+3] },
		"empty":                   func([]byte) []byte { return []byte{} },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := filled(t, 8)
				w.put("bulk/1", "a value that is short")
				w.put("bulk/1", "another")
				w.close()
				key := w.deltaKeys()[0]
				whole := w.disk.Value(key)
				w.disk.Set(key, damage(slices.Clone(whole)))
				re := openMount(t, w.disk, 0, storagetest.None)
				defer re.close()
				for _, item := range []string{"bulk/1", "bulk/2"} {
					resp, err := re.call(read, itemPath(item), nil)
					require.Equal(t, 500, code(resp, err))
					require.ErrorContains(t, err, "does not open")
				}
				id := re.must(update, tenantPath("/dek/rotate"), nil)["rotation_id"].(string)
				advance(time.Minute)
				require.Equal(t, "failed", re.status(id)["status"])

				re.disk.Set(key, whole)
				re.b.InvalidateKey(context.Background(), key)
				require.Equal(t, "another", re.value("bulk/1"))
				re.must(update, tenantPath("/dek/rotations/"+id+"/retry"), nil)
				advance(time.Minute)
				require.Equal(t, "completed", re.status(id)["status"])
				require.Equal(t, "another", re.value("bulk/1"))
			})
		})
	}
}

// A delta counts with the page alone that it names: not at another place, and not
// with the page as it was put again.
func TestDeltaOfAnotherPutDoesNotCount(t *testing.T) {
	w := ofOnePage(t)
	w.put("bulk/1", "the first delta")
	key := w.deltaKeys()[0]
	first := w.disk.Value(key)
	w.remove("bulk/2") // puts the page
	w.put("bulk/1", "the second delta")
	w.disk.Set(key, first)
	re := openMount(t, w.disk, 0, storagetest.None)
	defer re.close()
	require.Equal(t, "the first delta", re.value("bulk/1"), "as the page has it")
	resp, err := re.call(read, itemPath("bulk/2"), nil)
	require.Equal(t, 404, code(resp, err))
}

// A reader that is slow between its two reads shows what was acknowledged before it
// began, whatever is put meanwhile.
func TestReaderBetweenADeltaAndItsPage(t *testing.T) {
	w := ofOnePage(t)
	w.put("bulk/1", "acknowledged")
	require.Len(t, w.deltaKeys(), 1)
	for _, key := range w.disk.Keys("pages/") {
		w.b.InvalidateKey(context.Background(), key) // nothing is cached any more
	}
	reading, readOn := w.stopAfter("get")
	reader := w.beside(read, itemPath("bulk/1"), nil)
	<-reading
	require.Equal(t, "pd", w.puts(func() {
		w.put("bulk/2", "puts the page")
		w.put("bulk/2", "and its delta")
	}))
	readOn()
	got := <-reader
	require.NoError(t, got.err)
	require.Equal(t, "acknowledged", got.resp.Data["data"].(map[string]any)["value"])
}

// A List that was taken before a page's first delta must not be believed after it.
func TestListBegunBeforeTheFirstDelta(t *testing.T) {
	w := ofOnePage(t)
	writing, write := w.stopBefore("put")
	written := w.beside(update, itemPath("bulk/1"), secret("precious"))
	<-writing
	w.dropPages()
	listing, install := w.stopAfter("list")
	counted := w.beside(read, tenantPath(""), nil)
	<-listing
	write()
	require.NoError(t, (<-written).err)
	require.Len(t, w.deltaKeys(), 1)
	install()
	require.NoError(t, (<-counted).err)
	require.Equal(t, "precious", w.value("bulk/1"))
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
			w.put("bulk/1", "first delta")
			page, delta := w.pageKeys()[0], w.deltaKeys()[0]
			if stale[0] == "p" {
				w.remove("bulk/7") // the page is put, and then another process comes
				w = newWitness(openMount(t, w.disk, 0, storagetest.None))
				t.Cleanup(w.close)
			}
			for i, r := range []struct{ id, item, value string }{
				{"R1", "bulk/2", "repeated"}, {"R2", "bulk/3", "fails"},
			} {
				w.storage.Fail(func(op, key string) storagetest.Fault {
					if op == "put" && strings.HasPrefix(path.Base(key), stale[i]) {
						// Vault's cache drops what it hid before this write, after its reading.
						w.disk.Set(key, w.disk.Value(key))
						return storagetest.AfterStale
					}
					return storagetest.None
				})
				_, err := w.callAs(r.id, update, itemPath(r.item), secret(r.value))
				require.Error(t, err)
				w.storage.Fail(nil)
			}
			w.disk.Set(delta, w.disk.Value(delta)) // Vault's cache drops the delta, not the page
			second := openMount(t, w.disk, 0, storagetest.None)
			defer second.close()
			_, err := second.callAs("R1", update, itemPath("bulk/2"), secret("repeated"))
			require.NoError(t, err)
			require.Equal(t, "repeated", second.value("bulk/2"))
			w.disk.Set(page, w.disk.Value(page)) // and then the page
			third := openMount(t, w.disk, 0, storagetest.None)
			defer third.close()
			require.Equal(t, "repeated", third.value("bulk/2"))
		})
	}
}

// A reader on its way to a page that splits meanwhile, whose deletion then fails
// behind a stale cache, is not shown that page without the delta that a rotation
// deletes.
func TestReaderBesideADeltaWithoutItsPage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := filled(t, 8)
		defer w.close()
		w.must(update, "config", map[string]any{"retired_key_retention": "168h"})
		w.put("bulk/1", "older")
		w.put("bulk/1", "acknowledged")
		delta := w.deltaKeys()[0]
		for _, key := range w.disk.Keys("pages/") {
			w.b.InvalidateKey(context.Background(), key)
		}
		var came atomic.Bool
		reached, on := make(chan struct{}), make(chan struct{})
		w.storage.Hook(func(op, key string) {
			if op == "get" && key == delta && came.CompareAndSwap(false, true) {
				close(reached)
				<-on
			}
		})
		reader := w.beside(read, itemPath("bulk/1"), nil)
		<-reached
		w.storage.Fail(func(op, key string) storagetest.Fault {
			if op == "delete" && strings.HasPrefix(path.Base(key), "p") {
				return storagetest.AfterStale
			}
			return storagetest.None
		})
		w.put("splits", filler("splits", 20_000))
		w.storage.Fail(nil)
		w.rotate()
		advance(10 * time.Millisecond)
		require.NotContains(t, w.deltaKeys(), delta)
		close(on)
		got := <-reader
		require.NoError(t, got.err)
		require.Equal(t, "acknowledged", got.resp.Data["data"].(map[string]any)["value"])
	})
}

// A page that readers are shown from the engine's own cache, and that a write whose
// error hid its effect has replaced, is not shown without its delta either.
func TestCachedPageIsNotShownWithoutItsDelta(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := filled(t, 8)
		defer w.close()
		_, release := w.holdRotation()
		w.put("bulk/1", "puts the page, on the new version")
		w.put("bulk/1", "acknowledged")
		require.Len(t, w.deltaKeys(), 1)
		page := w.pageKeys()[0]
		w.storage.Fail(on("put", page, storagetest.AfterStale))
		w.remove("bulk/7")
		w.storage.Fail(nil)
		require.Equal(t, "acknowledged", w.value("bulk/1")) // keeps the page that is not stored any more
		w.disk.Set(page, w.disk.Value(page))                // Vault's cache drops it
		release()
		advance(time.Minute)
		require.Empty(t, w.deltaKeys())
		require.Equal(t, "acknowledged", w.value("bulk/1"))
		w.readsBack()
	})
}
