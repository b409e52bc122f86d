// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package verify

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"runtime"
	"sync"

	"filippo.io/torchwood"
	"golang.org/x/mod/sumdb/tlog"

	"github.com/vault-plugin-dek/vault-plugin-dek/evidence"
)

const (
	tileHeight = torchwood.TileHeight
	tileWidth  = torchwood.TileWidth
)

// tree hashes entries one after the other. It keeps only what later roots need, so a
// log of any size takes little memory.
type tree struct {
	size   int64
	hashes map[int64]tlog.Hash
	// levels are the tiles that are being filled.
	levels map[int][]byte
}

func newTree() *tree {
	return &tree{hashes: map[int64]tlog.Hash{}, levels: map[int][]byte{}}
}

func (t *tree) ReadHashes(indexes []int64) ([]tlog.Hash, error) {
	found := make([]tlog.Hash, len(indexes))
	for i, index := range indexes {
		hash, known := t.hashes[index]
		if !known {
			return nil, errors.New("a hash was forgotten too early")
		}
		found[i] = hash
	}
	return found, nil
}

// add hashes the next entry, and calls complete for each tile that it completes.
func (t *tree) add(leaf []byte, complete func(tlog.Tile, []byte)) error {
	hashes, err := tlog.StoredHashes(t.size, leaf, t)
	if err != nil {
		return err
	}
	first := tlog.StoredHashIndex(0, t.size)
	for i, hash := range hashes {
		index := first + int64(i)
		t.hashes[index] = hash
		level, n := tlog.SplitStoredHashIndex(index)
		if level%tileHeight != 0 {
			continue
		}
		l := level / tileHeight
		t.levels[l] = append(t.levels[l], hash[:]...)
		if (n+1)%tileWidth == 0 {
			complete(tlog.Tile{H: tileHeight, L: l, N: n / tileWidth, W: tileWidth}, t.levels[l])
			t.levels[l] = nil
		}
	}
	t.size++
	if t.size%tileWidth == 0 {
		t.forget()
	}
	return nil
}

// forget keeps the right edge only.
func (t *tree) forget() {
	edge := map[int64]tlog.Hash{}
	for _, index := range torchwood.RightEdge(t.size) {
		edge[index] = t.hashes[index]
	}
	t.hashes = edge
}

func (t *tree) root() (tlog.Hash, error) { return tlog.TreeHash(t.size, t) }

// scanner reads all entries of a log and holds them against its tiles.
type scanner struct {
	source Source
	tree   *tree
	result *Result
	// suspects are findings about entries, which hold if the tiles are the signed ones.
	suspects Result
	// tiles are those that differ from what the entries make.
	tiles []string
	// lastErr is why a tile could not be read.
	lastErr error
}

// decoded is what an entry says, or why it says nothing.
type decoded struct {
	event *evidence.Event
	err   error
}

// decode decodes entries, on all processors: that is most of the work.
func decode(leaves [][]byte) []decoded {
	all := make([]decoded, len(leaves))
	workers := runtime.GOMAXPROCS(0)
	var wg sync.WaitGroup
	for w := range workers {
		wg.Go(func() {
			for i := w; i < len(leaves); i += workers {
				all[i].event, all[i].err = evidence.Decode(leaves[i])
			}
		})
	}
	wg.Wait()
	return all
}

// scan calls each for the entries of a log of a size.
func (s *scanner) scan(ctx context.Context, size int64, each func(index int64, entry decoded)) error {
	for s.tree.size < size {
		width := min(tileWidth, size-s.tree.size)
		bundle := tlog.Tile{H: tileHeight, L: -1, N: s.tree.size / tileWidth, W: int(width)}
		leaves, err := s.bundle(ctx, bundle)
		if err != nil {
			return err
		}
		first := s.tree.size
		s.compareEntries(ctx, bundle, first, leaves)
		events := decode(leaves)
		for i, leaf := range leaves {
			index := s.tree.size
			if err := s.tree.add(leaf, func(t tlog.Tile, data []byte) { s.compareTile(ctx, t, data) }); err != nil {
				return err
			}
			each(index, events[i])
		}
		if int64(len(leaves)) < width {
			s.result.broken(CodeMissing, s.tree.size,
				"The log has %s, its checkpoint says %s: those from entry %d on are missing.",
				entries(s.tree.size), entries(size), s.tree.size)
			return nil
		}
	}
	for level, data := range s.tree.levels {
		if len(data) > 0 {
			n := size >> (tileHeight * level) / tileWidth
			s.compareTile(ctx, tlog.Tile{H: tileHeight, L: level, N: n, W: len(data) / tlog.HashSize}, data)
		}
	}
	return s.lastErr
}

// bundle reads entries. One that is cut off ends with its last whole entry.
func (s *scanner) bundle(ctx context.Context, t tlog.Tile) ([][]byte, error) {
	data, err := s.source.Read(ctx, torchwood.TilePath(t))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	} else if err != nil {
		return nil, err
	}
	var leaves [][]byte
	for len(data) > 0 && len(leaves) < t.W {
		leaf, rest, err := torchwood.ReadTileEntry(data)
		if err != nil {
			break
		}
		leaves, data = append(leaves, leaf), rest
	}
	if len(data) > 0 && len(leaves) == t.W {
		s.result.broken(CodeEntry, t.N*tileWidth, "The file %s has more than its %s.", torchwood.TilePath(t), entries(int64(t.W)))
	}
	return leaves, nil
}

// compareTile holds a tile of the source against what the entries make.
func (s *scanner) compareTile(ctx context.Context, t tlog.Tile, made []byte) {
	if t.L == 0 {
		return // with the entries: compareEntries
	}
	path := torchwood.TilePath(t)
	data, err := s.source.Read(ctx, path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		s.result.broken(CodeMissing, -1, "The tile %s is missing.", path)
	case err != nil:
		s.lastErr = err
	case !bytes.Equal(data, made):
		s.tiles = append(s.tiles, path)
	}
}

// compareEntries holds the hashes of entries against their tile.
func (s *scanner) compareEntries(ctx context.Context, bundle tlog.Tile, first int64, leaves [][]byte) {
	bundle.L = 0
	path := torchwood.TilePath(bundle)
	data, err := s.source.Read(ctx, path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		s.result.broken(CodeMissing, -1, "The tile %s is missing.", path)
		return
	case err != nil:
		s.lastErr = err
		return
	}
	made := make([]tlog.Hash, len(leaves))
	for i, leaf := range leaves {
		made[i] = tlog.RecordHash(leaf)
	}
	said := make([]tlog.Hash, len(data)/tlog.HashSize)
	for i := range said {
		said[i] = tlog.Hash(data[i*tlog.HashSize:])
	}
	if len(data) != bundle.W*tlog.HashSize {
		s.tiles = append(s.tiles, path)
	}
	s.judge(first, path, made, said)
}

// judge says how entries differ from their tile. Whether the entries or the tile are
// right is for the root to show.
func (s *scanner) judge(first int64, path string, made, said []tlog.Hash) {
	at := map[tlog.Hash]int{}
	for i, hash := range said {
		at[hash] = i
	}
	var differing []int
	for i := range min(len(made), len(said)) {
		if made[i] != said[i] {
			differing = append(differing, i)
		}
	}
	if len(differing) == 0 {
		return
	}
	s.tiles = append(s.tiles, path)
	if i := differing[0]; i+1 < len(said) && made[i] == said[i+1] && len(differing) > 2 {
		s.suspect(CodeDropped, first+int64(i), "Entry %d was taken out: the entry in its place is the next one.", first+int64(i))
		return
	}
	for _, i := range differing {
		if k, elsewhere := at[made[i]]; elsewhere {
			s.suspect(CodeSwapped, first+int64(i), "Entry %d stands where entry %d belongs.", first+int64(k), first+int64(i))
		} else {
			s.suspect(CodeEntry, first+int64(i), "Entry %d is not the one that was logged: its hash is not the one in %s.",
				first+int64(i), path)
		}
	}
}

func (s *scanner) suspect(code string, index int64, format string, args ...any) {
	s.suspects.broken(code, index, format, args...)
}
