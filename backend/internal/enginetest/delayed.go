// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package enginetest

import (
	"slices"
	"strings"
	"sync"
	"testing/synctest"

	"github.com/stretchr/testify/require"

	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/storagetest"
)

// DelayedWrite is a write that takes effect after its error has been reported: a
// request to storage that timed out, and was still under way. The protocol orders
// nothing after such a write, but every key that goes is preceded by a look at all
// pages, as late as can be.
type DelayedWrite struct {
	key   string
	value []byte
}

// Lands lets the write take effect.
func (l DelayedWrite) Lands(d *storagetest.Disk) { d.Set(l.key, l.value) }

// DelayedChild breaks a split off after its first child, and takes that child off
// the disk again: its write will land later. What is in it counts nowhere.
func (w *Oracle) DelayedChild() DelayedWrite {
	w.T.Helper()
	before, children := w.Disk.Keys("pages/"), 0
	w.Storage.Fail(func(op, key string) storagetest.Fault {
		if op == "put" && strings.HasPrefix(key, "pages/") {
			if children++; children == 2 {
				return storagetest.Before
			}
		}
		return storagetest.None
	})
	w.Put("fails", Filler("splits", 33_000))
	w.Storage.Fail(nil)
	added := slices.DeleteFunc(w.Disk.Keys("pages/"), func(key string) bool { return slices.Contains(before, key) })
	require.Len(w.T, added, 1)
	child := DelayedWrite{added[0], w.Disk.Value(added[0])}
	w.Disk.Set(child.key, nil)
	w.DropPages()
	return child
}

// HoldRotation starts a rotation, which the oracle is to see end, and holds its
// sweep before the first page.
func (w *Oracle) HoldRotation() (id string, release func()) {
	<-w.Engine.Pages.Request()
	w.Rotate()
	synctest.Wait()
	return w.Rotations[len(w.Rotations)-1], w.Engine.Pages.Release
}

// EachLands lets a late write put each entry with that prefix that is written back
// as it was before, once.
func (w *Oracle) EachLands(prefix string) (landed map[string]bool) {
	before, landed := w.Disk.Clone(), map[string]bool{}
	var mu sync.Mutex
	w.Storage.Done(func(op, key string) {
		mu.Lock()
		defer mu.Unlock()
		if op == "put" && strings.HasPrefix(key, prefix) && !landed[key] {
			landed[key] = true
			DelayedWrite{key, before.Value(key)}.Lands(w.Disk)
		}
	})
	return landed
}
