// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

//go:build acceptance

package acceptance

import (
	"encoding/binary"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/vault-plugin-dek/vault-plugin-dek/internal/devstack"
)

// boltFile is raft's vault.db, a bbolt file: pages of one size, and in those that are
// leaves elements with the keys and values that they point to. Free pages may hold old
// copies of entries; they are altered as well, since nothing reads them.
type boltFile struct {
	bytes    []byte
	pageSize int
}

const (
	boltHeader  = 16 // id 8, flags 2, count 2, overflow 4
	boltElement = 16 // flags 4, position 4, key size 4, value size 4
	boltLeaf    = 0x02
)

// flip alters the last byte of the value of each entry whose key matches, and returns
// how many there were. The value is what Vault's barrier made of it, so its last byte
// is of an authentication tag.
func (f boltFile) flip(match func(key string) bool) (flipped map[string]bool) {
	flipped = map[string]bool{}
	for at := 0; at+f.pageSize <= len(f.bytes); at += f.pageSize {
		if binary.LittleEndian.Uint16(f.bytes[at+8:]) != boltLeaf {
			continue
		}
		for i := range int(binary.LittleEndian.Uint16(f.bytes[at+10:])) {
			f.flipElement(at+boltHeader+i*boltElement, match, flipped)
		}
	}
	return flipped
}

func (f boltFile) flipElement(at int, match func(key string) bool, flipped map[string]bool) {
	if at+boltElement > len(f.bytes) {
		return // what a free page holds is no element
	}
	field := func(n int) int { return int(binary.LittleEndian.Uint32(f.bytes[at+4*n:])) }
	flags, position, keySize, valueSize := field(0), field(1), field(2), field(3)
	from, to := at+position, at+position+keySize+valueSize
	if flags != 0 || keySize == 0 || valueSize == 0 || from > len(f.bytes) || to > len(f.bytes) || from > to {
		return
	}
	if key := string(f.bytes[from : from+keySize]); match(key) {
		f.bytes[to-1] ^= 1
		flipped[key] = true
	}
}

// flipBits alters entries in raft's file while Vault does not run.
func flipBits(t *testing.T, s *devstack.Stack, match func(key string) bool) map[string]bool {
	t.Helper()
	var path string
	require.NoError(t, filepath.WalkDir(s.DataDir(), func(p string, _ fs.DirEntry, err error) error {
		if filepath.Base(p) == "vault.db" {
			path = p
		}
		return err
	}))
	content, err := os.ReadFile(path)
	require.NoError(t, err)
	const pageSizeAt = boltHeader + 8 // of the meta page: magic 4, version 4
	f := boltFile{content, int(binary.LittleEndian.Uint32(content[pageSizeAt:]))}
	flipped := f.flip(match)
	require.NoError(t, os.WriteFile(path, content, 0o600))
	return flipped
}
