// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package enginetest

import (
	"encoding/binary"
	"path"
	"slices"
	"strings"
)

// PagesOnDisk counts the pages on each version.
func (m *Mount) PagesOnDisk() map[int]int {
	on := map[int]int{}
	for _, key := range m.PageKeys() {
		on[VersionOf(m.Disk.Value(key))]++
	}
	return on
}

// VersionOf is the version in the clear header of a page.
func VersionOf(page []byte) int {
	return int(binary.BigEndian.Uint32(page[1:]))
}

// PageKeys and DeltaKeys are the entries of pages, and those of their deltas.
func (m *Mount) PageKeys() []string { return m.named("p") }

// DeltaKeys lists the keys of all deltas on disk.
func (m *Mount) DeltaKeys() []string { return m.named("d") }

func (m *Mount) named(kind string) []string {
	return slices.DeleteFunc(m.Disk.Keys("pages/"), func(key string) bool {
		return !strings.HasPrefix(path.Base(key), kind)
	})
}
