// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package evidencelog

import (
	"context"
	"fmt"
	"time"

	"filippo.io/torchwood"
	"golang.org/x/mod/sumdb/tlog"

	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/logindex"
)

// A tree is the log as of one checkpoint. It does not change.
type tree struct {
	log  place
	size int64
	root tlog.Hash
	note []byte
	// signedAt is when this process signed it, zero if another did.
	signedAt time.Time
	// edge has the incomplete tile of each level that has one: 32 bytes a hash.
	edge map[int][]byte
}

func (t *tree) at() logindex.At { return logindex.At{Log: int64(t.log), Size: t.size} }

// edgeWidth is how many hashes the incomplete tile of a level has.
func edgeWidth(size int64, level int) int {
	return int(size >> (tileHeight * level) & (tileWidth - 1))
}

// encodeEdge joins the incomplete tiles. The size says how wide each is.
func encodeEdge(size int64, edge map[int][]byte) []byte {
	var all []byte
	for level := 0; size>>(tileHeight*level) > 0; level++ {
		all = append(all, edge[level]...)
	}
	return all
}

func decodeEdge(size int64, all []byte) (map[int][]byte, error) {
	edge := map[int][]byte{}
	for level := 0; size>>(tileHeight*level) > 0; level++ {
		n := edgeWidth(size, level) * tlog.HashSize
		if len(all) < n {
			return nil, fmt.Errorf("%w: the edge at size %d is short", ErrDamaged, size)
		}
		if n > 0 {
			edge[level] = all[:n:n]
		}
		all = all[n:]
	}
	if len(all) > 0 {
		return nil, fmt.Errorf("%w: the edge at size %d is long", ErrDamaged, size)
	}
	return edge, nil
}

// hashReader reads hashes of a tree: from its edge, and from complete tiles in storage.
func (l *Log) hashReader(ctx context.Context, t *tree) tlog.HashReader {
	return tlog.HashReaderFunc(func(indexes []int64) ([]tlog.Hash, error) {
		hashes := make([]tlog.Hash, 0, len(indexes))
		for _, index := range indexes {
			tile := tlog.TileForIndex(tileHeight, index)
			data, err := l.tile(ctx, t, tile)
			if err != nil {
				return nil, err
			}
			hash, err := tlog.HashFromTile(tile, data, index)
			if err != nil {
				return nil, fmt.Errorf("%w: %w", ErrDamaged, err)
			}
			hashes = append(hashes, hash)
		}
		return hashes, nil
	})
}

// tile returns the hashes of a tile of the tree, cut from a wider one if need be.
func (l *Log) tile(ctx context.Context, t *tree, tile tlog.Tile) ([]byte, error) {
	width := tile.W * tlog.HashSize
	below := t.size >> (tileHeight * tile.L) // hashes at this level
	switch {
	case tile.N*tileWidth+int64(tile.W) > below:
		return nil, ErrNotFound
	case tile.N == below/tileWidth:
		return t.edge[tile.L][:width], nil
	}
	key := t.log.tile(tile)
	data, cached := l.tiles.Get(key)
	if !cached {
		var err error
		if data, err = l.read(ctx, key); err != nil {
			return nil, err
		}
		if len(data) != tileWidth*tlog.HashSize {
			return nil, fmt.Errorf("%w: %s", ErrDamaged, key)
		}
		l.tiles.Add(key, data)
	}
	return data[:width], nil
}

// read returns an entry that must be there.
func (l *Log) read(ctx context.Context, key string) ([]byte, error) {
	value, err := l.storage.Get(ctx, key)
	switch {
	case err != nil:
		return nil, fmt.Errorf("%w: %w", ErrDamaged, err)
	case value == nil:
		return nil, fmt.Errorf("%w: %s is missing", ErrDamaged, key)
	}
	return value, nil
}

// growth is what a batch adds to a tree.
type growth struct {
	next  *tree // without its note
	tiles map[string][]byte
}

// grow hashes the entries of a batch into the tree.
func (l *Log) grow(ctx context.Context, t *tree, leaves [][]byte) (*growth, error) {
	added := map[int64]tlog.Hash{}
	stored := l.hashReader(ctx, t)
	reader := tlog.HashReaderFunc(func(indexes []int64) ([]tlog.Hash, error) {
		return readThrough(added, stored, indexes)
	})
	size := t.size
	for _, leaf := range leaves {
		hashes, err := tlog.StoredHashes(size, leaf, reader)
		if err != nil {
			return nil, err
		}
		for i, hash := range hashes {
			added[tlog.StoredHashIndex(0, size)+int64(i)] = hash
		}
		size++
	}
	root, err := tlog.TreeHash(size, reader)
	if err != nil {
		return nil, err
	}
	g := &growth{next: &tree{log: t.log, size: size, root: root, edge: map[int][]byte{}}, tiles: map[string][]byte{}}
	for level, data := range t.edge {
		if size>>(tileHeight*level) == t.size>>(tileHeight*level) {
			g.next.edge[level] = data
		}
	}
	for _, tile := range tlog.NewTiles(tileHeight, t.size, size) {
		data, err := tlog.ReadTileData(tile, reader)
		if err != nil {
			return nil, err
		}
		if tile.W == tileWidth {
			g.tiles[t.log.tile(tile)] = data
		} else {
			g.next.edge[tile.L] = data
		}
	}
	return g, nil
}

// readThrough reads hashes that a batch adds from memory, the others from the tree.
func readThrough(added map[int64]tlog.Hash, stored tlog.HashReader, indexes []int64) ([]tlog.Hash, error) {
	hashes := make([]tlog.Hash, len(indexes))
	var missing []int64
	var at []int
	for i, index := range indexes {
		if hash, known := added[index]; known {
			hashes[i] = hash
		} else {
			missing, at = append(missing, index), append(at, i)
		}
	}
	if len(missing) == 0 {
		return hashes, nil
	}
	old, err := stored.ReadHashes(missing)
	if err != nil {
		return nil, err
	}
	for i, hash := range old {
		hashes[at[i]] = hash
	}
	return hashes, nil
}

// encodeChunk joins entries as a bundle of tlog-tiles does.
func encodeChunk(leaves [][]byte) ([]byte, error) {
	var chunk []byte
	for _, leaf := range leaves {
		var err error
		if chunk, err = torchwood.AppendTileEntry(chunk, leaf); err != nil {
			return nil, err
		}
	}
	return chunk, nil
}

func decodeChunk(chunk []byte) ([][]byte, error) {
	var leaves [][]byte
	for len(chunk) > 0 {
		leaf, rest, err := torchwood.ReadTileEntry(chunk)
		if err != nil {
			return nil, fmt.Errorf("%w: %w", ErrDamaged, err)
		}
		leaves, chunk = append(leaves, leaf), rest
	}
	return leaves, nil
}
