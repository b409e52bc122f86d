// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package backend

import (
	"encoding/binary"
	"strings"
	"sync/atomic"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/storagetest"
)

// takePlace takes the only place in the pool, without which no page is moved.
func (w *walk) takePlace() (release func()) {
	pool := w.b.Pages
	<-pool.Request()
	return pool.Release
}

func (w *walk) holdStart() (release func()) {
	release = w.takePlace()
	w.request()
	return release
}

// holdMiddle holds the sweep between two pages.
func (w *walk) holdMiddle() (release func()) {
	held := w.holdAfter("pages/")
	w.request()
	w.storage.Hook(nil)
	require.True(w.t, held.Load())
	require.Len(w.t, w.pagesOnDisk(), 2, "versions that pages are on")
	return w.b.Pages.Release
}

// holdEnd holds the rotation when it has moved and read every page, at its last
// List but that of its end, without a lock.
func (w *walk) holdEnd() (release func()) {
	on := make(chan struct{})
	var looks atomic.Int64
	w.storage.Hook(func(op, key string) {
		if op == "list" && strings.HasPrefix(key, "pages/") && len(w.pagesOnDisk()) == 1 {
			if looks.Add(1) == 3 {
				<-on
			}
		}
	})
	w.request()
	require.EqualValues(w.t, 3, looks.Load())
	require.Equal(w.t, map[int]int{2: len(w.pageKeys())}, w.pagesOnDisk())
	return func() { close(on) }
}

// holdRetiring lets the old key's deletion fail.
func (w *walk) holdRetiring() (release func()) {
	m := w.mount
	m.storage.Fail(on("delete", "keys/", storagetest.Before))
	w.request()
	advance(10 * time.Second)
	return func() { m.storage.Fail(nil) }
}

// pagesOnDisk counts the pages on each version.
func (m *mount) pagesOnDisk() map[int]int {
	on := map[int]int{}
	for _, key := range m.pageKeys() {
		on[versionOf(m.disk.Value(key))]++
	}
	return on
}

// versionOf is the version in the clear header of a page.
func versionOf(page []byte) int {
	return int(binary.BigEndian.Uint32(page[1:]))
}
