// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package interleave

import (
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/enginetest"
)

// onList calls f after the kth List of pages.
func onList(m *enginetest.Mount, k int64, f func()) (lists *atomic.Int64) {
	lists = new(atomic.Int64)
	m.Storage.Done(func(op, key string) {
		if op == "list" && strings.HasPrefix(key, "pages/") {
			if lists.Add(1) == k {
				f()
			}
		}
	})
	return lists
}

// A page of the version that a rotation leaves turns up before the first look at the
// pages, and after each look in turn. It is found by the next, the last of which is made
// while nobody can write and before the key goes.
func TestDelayedPageIsFoundBeforeAKeyGoes(t *testing.T) {
	for name, cancel := range map[string]bool{"forward": false, "back": true} {
		t.Run(name, func(t *testing.T) {
			for k := int64(0); ; k++ {
				found := false
				synctest.Test(t, func(t *testing.T) { found = delayedPage(t, k, cancel) })
				if !found {
					require.Positive(t, k, "looks")
					t.Logf("%d looks", k)
					return
				}
			}
		})
	}
}

// delayedPage lets a page turn up after the kth look, or before all of them; false if
// there was no later one.
func delayedPage(t *testing.T, k int64, cancel bool) (found bool) {
	w := enginetest.Filled(t, 8)
	defer w.Close()
	var child enginetest.DelayedWrite
	if !cancel {
		child = w.DelayedChild()
	}
	_, release := w.HoldRotation()
	if cancel {
		child = w.DelayedChild()
		w.Act("cancel", "rolled_back")
	}
	lists := onList(w.Mount, k, func() { child.Lands(w.Disk) })
	if k == 0 {
		child.Lands(w.Disk)
	}
	release()
	enginetest.Advance(time.Minute)
	w.Storage.Done(nil)
	require.GreaterOrEqual(t, lists.Load(), k)
	w.ReadsBack()
	if lists.Load() == k {
		// It came when the key had gone. Nothing in it counts, and the next rotation
		// deletes it.
		w.Works()
		return false
	}
	w.AtRest()
	return true
}

// putBack lets a late write put each page that is moved back as it was before, once.
func putBack(w *enginetest.Oracle) (landed map[string]bool) {
	return w.EachLands("pages/")
}

// Where the old key goes at once, a page that has been moved is read once more
// before it counts as moved. So one that a late write has put back, sealed by the
// old version, is moved again.
func TestMovedPageIsReadOnceMore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := enginetest.Filled(t, 25)
		defer w.Close()
		_, release := w.HoldRotation()
		landed := putBack(w)
		release()
		enginetest.Advance(time.Minute)
		w.Storage.Done(nil)
		require.NotEmpty(t, landed)
		w.ReadsBack()
		w.AtRest()
		w.Works()
	})
}

// Where the old key is kept for a while, all pages are read before it goes: with a
// page that a late write has put back it stays, until a rotation has moved that.
func TestKeptKeyOfAMovedPage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := enginetest.Filled(t, 25)
		defer w.Close()
		w.Must(enginetest.Update, "config", map[string]any{"retired_key_retention": "168h", "scheduler_jitter": 0})
		_, release := w.HoldRotation()
		landed := putBack(w)
		release()
		enginetest.Advance(time.Minute)
		w.Storage.Done(nil)
		require.NotEmpty(t, landed)
		require.Contains(t, w.PagesOnDisk(), 1)
		w.Hourly(20 * enginetest.Day)
		w.ReadsBack()
		require.Equal(t, "deactivated", w.VersionList()[0]["state"])

		w.Rotate()
		enginetest.Advance(time.Minute)
		w.Hourly(9 * enginetest.Day)
		require.Equal(t, "destroyed", w.VersionList()[0]["state"])
		w.ReadsBack()
		w.AtRest()
		w.Works()
	})
}

// The keys of single versions, too, go only after a second look under the tenant's
// exclusive lock.
func TestDelayedPageKeepsAVersion(t *testing.T) {
	for name, destroy := range map[string]func(w *enginetest.Oracle){
		"by hand": func(w *enginetest.Oracle) {
			resp, err := w.Call(enginetest.Update, enginetest.DestroyPath(1), nil)
			require.Equal(w.T, 409, enginetest.Code(resp, err))
			require.ErrorContains(w.T, err, "pages of items are on it (1)")
		},
		"by the schedule": func(w *enginetest.Oracle) {
			enginetest.Advance(8 * enginetest.Day)
			w.Tick()
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := enginetest.Filled(t, 8)
				defer w.Close()
				w.Must(enginetest.Update, "config", map[string]any{"retired_key_retention": "168h"})
				child := w.DelayedChild()
				w.Rotate()
				enginetest.Advance(time.Minute)
				lists := onList(w.Mount, 1, func() { child.Lands(w.Disk) })
				destroy(w)
				w.Storage.Done(nil)
				require.EqualValues(t, 2, lists.Load(), "two looks")
				require.Equal(t, fmt.Sprint("deactivated", 1), fmt.Sprint(w.VersionList()[0]["state"], w.VersionList()[0]["version"]))
				w.ReadsBack()
				w.KeysMayStay = true
				w.Works()
			})
		})
	}
}
