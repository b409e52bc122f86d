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
	"time"

	"github.com/stretchr/testify/require"

	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/storagetest"
)

// A write can take effect after its error has been reported: a request to storage
// that timed out, and was still under way. The protocol orders nothing after such
// a write, but every key that goes is preceded by a look at all pages, as late as
// can be: the tests of this file let pages on an old version turn up before it.

// late is an entry that will take effect.
type late struct {
	key   string
	value []byte
}

func (l late) lands(d *storagetest.Disk) { d.Set(l.key, l.value) }

// lateChild breaks a split off after its first child, and takes that child off
// the disk again: its write will land later. What is in it counts nowhere.
func (w *witness) lateChild() late {
	w.t.Helper()
	before, children := w.disk.Keys("pages/"), 0
	w.storage.Fail(func(op, key string) storagetest.Fault {
		if op == "put" && strings.HasPrefix(key, "pages/") {
			if children++; children == 2 {
				return storagetest.Before
			}
		}
		return storagetest.None
	})
	w.put("fails", filler("splits", 33_000))
	w.storage.Fail(nil)
	added := slices.DeleteFunc(w.disk.Keys("pages/"), func(key string) bool { return slices.Contains(before, key) })
	require.Len(w.t, added, 1)
	child := late{added[0], w.disk.Value(added[0])}
	w.disk.Set(child.key, nil)
	w.dropPages()
	return child
}

// onList calls f after the kth List of pages.
func (m *mount) onList(k int64, f func()) (lists *atomic.Int64) {
	lists = new(atomic.Int64)
	m.storage.Done(func(op, key string) {
		if op == "list" && strings.HasPrefix(key, "pages/") {
			if lists.Add(1) == k {
				f()
			}
		}
	})
	return lists
}

// A page of the version that a rotation leaves turns up after each look at the
// pages in turn. It is found by the next, the last of which is made while nobody
// can write and before the key goes.
func TestLatePageIsFoundBeforeAKeyGoes(t *testing.T) {
	for name, cancel := range map[string]bool{"forward": false, "back": true} {
		t.Run(name, func(t *testing.T) {
			for k := int64(1); ; k++ {
				found := false
				synctest.Test(t, func(t *testing.T) { found = latePage(t, k, cancel) })
				if !found {
					require.Greater(t, k, int64(2))
					t.Logf("%d looks", k)
					return
				}
			}
		})
	}
}

// latePage lets a page turn up after the kth look; false if there was no later one.
func latePage(t *testing.T, k int64, cancel bool) (found bool) {
	w := filled(t, 8)
	defer w.close()
	var child late
	if !cancel {
		child = w.lateChild()
	}
	_, release := w.holdRotation()
	if cancel {
		child = w.lateChild()
		w.act("cancel", "rolled_back")
	}
	lists := w.onList(k, func() { child.lands(w.disk) })
	release()
	advance(time.Minute)
	w.storage.Done(nil)
	require.GreaterOrEqual(t, lists.Load(), k)
	w.readsBack()
	if lists.Load() == k {
		// It came when the key had gone. Nothing in it counts, and the next rotation
		// deletes it.
		w.works()
		return false
	}
	w.atRest()
	return true
}

// holdRotation starts a rotation, which the witness is to see end, and holds its
// sweep before the first page.
func (w *witness) holdRotation() (id string, release func()) {
	<-w.b.Pages.Request()
	w.rotate()
	synctest.Wait()
	return w.rotations[len(w.rotations)-1], w.b.Pages.Release
}

// eachLands lets a late write put each entry with that prefix that is written back
// as it was before, once.
func (w *witness) eachLands(prefix string) (landed map[string]bool) {
	before, landed := w.disk.Clone(), map[string]bool{}
	var mu sync.Mutex
	w.storage.Done(func(op, key string) {
		mu.Lock()
		defer mu.Unlock()
		if op == "put" && strings.HasPrefix(key, prefix) && !landed[key] {
			landed[key] = true
			late{key, before.Value(key)}.lands(w.disk)
		}
	})
	return landed
}

// putBack lets a late write put each page that is moved back as it was before, once.
func (w *witness) putBack() (landed map[string]bool) {
	return w.eachLands("pages/")
}

// Where the old key goes at once, a page that has been moved is read once more
// before it counts as moved. So one that a late write has put back, sealed by the
// old version, is moved again.
func TestMovedPageIsReadOnceMore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := filled(t, 25)
		defer w.close()
		_, release := w.holdRotation()
		landed := w.putBack()
		release()
		advance(time.Minute)
		w.storage.Done(nil)
		require.NotEmpty(t, landed)
		w.readsBack()
		w.atRest()
		w.works()
	})
}

// Where the old key is kept for a while, all pages are read before it goes: with a
// page that a late write has put back it stays, until a rotation has moved that.
func TestKeptKeyOfAMovedPage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := filled(t, 25)
		defer w.close()
		w.must(update, "config", map[string]any{"retired_key_retention": "168h", "scheduler_jitter": 0})
		_, release := w.holdRotation()
		landed := w.putBack()
		release()
		advance(time.Minute)
		w.storage.Done(nil)
		require.NotEmpty(t, landed)
		require.Contains(t, w.pagesOnDisk(), 1)
		w.hourly(20 * day)
		w.readsBack()
		require.Equal(t, "deactivated", w.versionList()[0]["state"])

		w.rotate()
		advance(time.Minute)
		w.hourly(9 * day)
		require.Equal(t, "destroyed", w.versionList()[0]["state"])
		w.readsBack()
		w.atRest()
		w.works()
	})
}

// The keys of single versions, too, go only after a second look under the tenant's
// exclusive lock.
func TestLatePageKeepsAVersion(t *testing.T) {
	for name, destroy := range map[string]func(w *witness){
		"by hand": func(w *witness) {
			resp, err := w.call(update, destroyPath(1), nil)
			require.Equal(w.t, 409, code(resp, err))
			require.ErrorContains(w.t, err, "pages of items are on it (1)")
		},
		"by the schedule": func(w *witness) {
			advance(8 * day)
			w.tick()
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := filled(t, 8)
				defer w.close()
				w.must(update, "config", map[string]any{"retired_key_retention": "168h"})
				child := w.lateChild()
				w.rotate()
				advance(time.Minute)
				lists := w.onList(1, func() { child.lands(w.disk) })
				destroy(w)
				w.storage.Done(nil)
				require.EqualValues(t, 2, lists.Load(), "two looks")
				require.Equal(t, fmt.Sprint("deactivated", 1), fmt.Sprint(w.versionList()[0]["state"], w.versionList()[0]["version"]))
				w.readsBack()
				w.works()
			})
		})
	}
}
