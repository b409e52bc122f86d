// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package backend

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/require"

	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/storagetest"
)

// lostItems names the items of w that cannot be read, for good: 410.
func (w *witness) lostItems() (lost []string) {
	w.t.Helper()
	for item := range w.allowed {
		switch c := w.reads(item); c {
		case 200:
		case 410:
			lost = append(lost, item)
		default:
			require.Fail(w.t, "reading", "%s: %d", item, c)
		}
	}
	slices.Sort(lost)
	return lost
}

func (w *witness) names(data map[string]any) ([]string, map[string]any) {
	w.t.Helper()
	got := w.must(list, tenantPath("/secrets/"), data)
	keys, _ := got["keys"].([]string)
	return keys, got
}

// Once a version was destroyed by force, the pages that are lost with it are replaced,
// and told as lost: names can be written and deleted, lists and rotations work again.
func TestLostPagesAreReplaced(t *testing.T) {
	for name, damage := range map[string]func(w *witness, page string){
		"does not open": func(w *witness, page string) {
			value := w.disk.Value(page)
			value[len(value)-1] ^= 1
			w.disk.Set(page, value)
		},
		"does not open, nor its header": func(w *witness, page string) { w.disk.Set(page, []byte{0xff}) },
		"cannot be read":                func(w *witness, page string) { w.damageKey(page) },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := retained(t, 40)
				defer func() { w.close() }()
				bad := w.largestPage()
				damage(w, bad)
				w.rotate()
				w.rests(1)
				st := w.status(w.rotations[0])
				require.Equal(t, "failed", st["status"])
				require.GreaterOrEqual(t, st["items_failed"], 1)
				_, err := w.call(list, tenantPath("/secrets/"), nil)
				require.Error(t, err)
				w.givesUpAndGoesOn(bad)
			})
		})
	}
}

// givesUpAndGoesOn destroys version 1, which page bad is on, and looks at what follows.
func (w *witness) givesUpAndGoesOn(bad string) {
	t := w.t
	w.must(update, destroyPath(1), map[string]any{"force": true})
	w = w.afresh()
	lost := w.lostItems()
	require.NotEmpty(t, lost)
	require.Less(t, len(lost), len(w.allowed))
	keys, _ := w.names(nil)
	require.Len(t, keys, len(w.allowed)-len(lost), "a list has the rest")
	_, got := w.names(map[string]any{"partial": true})
	require.Len(t, got["unreadable"], 1, "and names the gap")
	require.Contains(t, bad, "/"+got["unreadable"].([]map[string]any)[0]["place"].(string))

	w.rotate()
	w.rests(1)
	st := w.status(w.rotations[1])
	require.Equal(t, "completed", st["status"], "%v", st["failures"])
	require.GreaterOrEqual(t, st["items_failed"], 1)
	require.Len(t, st["failures"], 1)
	require.Contains(t, fmt.Sprint(st["failures"]), "by force")
	for _, item := range lost {
		require.Equal(t, 404, w.reads(item))
		w.allowed[item] = []string{absent}
	}
	w.put(lost[0], "written anew")
	w.readsBack()
	w.rotate()
	w.rests(1)
	st = w.status(w.rotations[2])
	require.Equal(t, []any{"completed", 0}, []any{st["status"], st["items_failed"]}, "it is told once")
	require.Equal(t, len(keys)+1, st["items_rotated"].(map[string]int)["secrets"])
	w.readsBack()
	w.close()
}

// Before a rotation replaces a lost page, a write or a deletion does. The rotation tells
// of it all the same.
func TestLostNamesAreWrittenAndDeleted(t *testing.T) {
	for name, first := range map[string]func(w *witness, item string){
		"written": func(w *witness, item string) {
			w.put(item, "written anew")
			require.Equal(w.t, 200, w.reads(item))
		},
		"deleted": func(w *witness, item string) {
			resp, err := w.call(del, itemPath(item), nil)
			require.NoError(w.t, err, "%v", resp)
			require.Equal(w.t, 404, w.reads(item))
			w.allowed[item] = []string{absent}
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := retained(t, 40)
				defer func() { w.close() }()
				w.damageKey(w.largestPage())
				w.rotate()
				w.rests(1)
				w.must(update, destroyPath(1), map[string]any{"force": true})
				w = w.afresh()
				lost := w.lostItems()
				resp, err := w.call("patch", itemPath(lost[0]), secret("no"))
				require.Equal(t, 410, code(resp, err))
				first(w, lost[0])
				for _, item := range lost[1:] {
					require.Equal(t, 404, w.reads(item))
					w.allowed[item] = []string{absent}
				}
				w.readsBack()
				w.must(update, action(w.rotations[0], "retry"), nil)
				w.rests(1)
				st := w.status(w.rotations[0])
				require.Equal(t, "completed", st["status"])
				require.GreaterOrEqual(t, st["items_failed"], 1)
				w.readsBack()
			})
		})
	}
}

// A page whose delta alone cannot be read keeps what it had without it.
func TestLostDelta(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := retained(t, 40)
		defer func() { w.close() }()
		w.deltas()
		deltas := w.deltaKeys()
		require.NotEmpty(t, deltas)
		w.damageKey(deltas[0])
		w = w.afresh()
		w.rotate()
		w.rests(1)
		require.Equal(t, "failed", w.status(w.rotations[0])["status"])
		w.must(update, destroyPath(1), map[string]any{"force": true})
		w.rotate()
		w.rests(1)
		require.Equal(t, "completed", w.status(w.rotations[1])["status"])
		require.Empty(t, w.deltaKeys())
		w.must(list, tenantPath("/secrets/"), nil)
	})
}

// A page that was damaged after a version was given up is not: nobody has said so.
func TestPageDamagedLaterIsNotGivenUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := retained(t, 40)
		defer func() { w.close() }()
		w.rotate()
		w.rests(1)
		w.must(update, destroyPath(1), map[string]any{"force": true})
		w.damageKey(w.largestPage())
		w = w.afresh()
		w.rotate()
		w.rests(1)
		require.Equal(t, "failed", w.status(w.rotations[1])["status"])
		w.disk.Heal()
		w.must(update, action(w.rotations[1], "retry"), nil)
		w.rests(1)
		require.Equal(t, "completed", w.status(w.rotations[1])["status"])
		w.readsBack()
	})
}

func TestPartialListNamesWhatCannotBeRead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := retained(t, 60)
		defer func() { w.close() }()
		whole, got := w.names(map[string]any{"partial": true})
		require.Len(t, whole, 60)
		require.Empty(t, got["unreadable"])
		pages := w.pageKeys()
		w.damageKey(pages[0])
		w.disk.Set(pages[2], nil) // removed from outside
		w = w.afresh()
		_, err := w.call(list, tenantPath("/secrets/"), nil)
		require.ErrorContains(t, err, "page does not open")
		some, got := w.names(map[string]any{"partial": true})
		require.True(t, slices.IsSorted(some))
		gaps := got["unreadable"].([]map[string]any)
		require.Len(t, gaps, 2)
		for i, page := range []string{pages[0], pages[2]} {
			require.Equal(t, page[strings.LastIndexByte(page, '/')+1:], gaps[i]["place"])
			require.NotEmpty(t, gaps[i]["reason"])
		}
		var paged []string
		for after := ""; ; after = paged[len(paged)-1] {
			resp, err := w.call(list, tenantPath("/secrets/"), map[string]any{"partial": true, "limit": 7, "after": after})
			require.NoError(t, err)
			keys, _ := resp.Data["keys"].([]string)
			if len(keys) == 0 {
				break
			}
			paged = append(paged, keys...)
		}
		slices.Sort(paged)
		require.Equal(t, some, paged)
		for item := range w.allowed {
			require.Equal(t, slices.Contains(some, item), w.reads(item) == 200, item)
		}
		for _, page := range pages {
			w.disk.Damage(storagetest.ErrAltered, storagetest.Below(page))
		}
		w = w.afresh()
		_, err = w.call(list, tenantPath("/secrets/"), map[string]any{"partial": true})
		require.ErrorContains(t, err, "no item of this kind can be read")
		w.refused(400, "partial must be true or false", list, tenantPath("/secrets/"), map[string]any{"partial": "maybe"})
	})
}

// The first count reads each page once, though pages split meanwhile, and once for all
// callers.
func TestFirstCountReadsEachPageOnce(t *testing.T) {
	m := newMount(t)
	w := newWitness(m)
	w.create()
	w.bulk(900, 3000)
	w = w.afresh()
	defer w.close()
	pages := len(w.pageKeys())
	require.Greater(t, pages, 60)
	var reads, splits atomic.Int64
	w.storage.Hook(func(op, key string) {
		if op == "get" && strings.HasPrefix(key, "pages/") && reads.Add(1)%20 == 0 && splits.Add(1) < 20 {
			// A page splits while others are counted.
			_, err := w.call(update, itemPath(fmt.Sprintf("large/%d", splits.Load())), secret(filler("large", 30_000)))
			require.NoError(t, err)
		}
	})
	var wg sync.WaitGroup
	for range 20 {
		wg.Go(func() { w.must(read, tenantPath(""), nil) })
	}
	wg.Wait()
	w.storage.Hook(nil)
	require.Greater(t, splits.Load(), int64(3))
	t.Logf("%d reads for %d pages, %d writes that split, 20 callers", reads.Load(), pages, splits.Load())
	require.Less(t, reads.Load(), int64(pages)+12*splits.Load())
}
