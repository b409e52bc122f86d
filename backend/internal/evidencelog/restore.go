// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package evidencelog

import (
	"context"
	"fmt"

	"golang.org/x/mod/sumdb/tlog"
	"golang.org/x/sync/errgroup"

	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/logkeys"
	"github.com/vault-plugin-dek/vault-plugin-dek/evidence"
)

// readTree reads the tree as of a checkpoint that List shows.
func (l *Log) readTree(ctx context.Context, set *logkeys.Set, size int64) (*tree, *logkeys.Key, error) {
	text, err := l.storage.Get(ctx, place(set.Log).checkpoint(size))
	if err == nil && text != nil {
		return l.openTree(ctx, set, size, text)
	}
	// The note is hidden behind a stale cache, or damaged. The same entries make the
	// same note.
	return l.rebuildTree(ctx, set, size)
}

func (l *Log) openTree(ctx context.Context, set *logkeys.Set, size int64, text []byte) (*tree, *logkeys.Key, error) {
	c, err := evidence.OpenCheckpoint(text, set.VKeys()...)
	if err != nil {
		return nil, nil, fmt.Errorf("%w: the checkpoint at size %d: %w", ErrDamaged, size, err)
	}
	if c.N != size || c.Origin != l.origin(place(set.Log)) {
		return nil, nil, fmt.Errorf("%w: the checkpoint at size %d is another one", ErrDamaged, size)
	}
	signing, err := set.Current(c.Keys)
	if err != nil {
		return nil, nil, fmt.Errorf("%w: %w", ErrDamaged, err)
	}
	t := &tree{log: place(set.Log), size: size, root: c.Hash, note: text}
	if t.edge, err = l.readEdge(ctx, t); err != nil {
		return nil, nil, err
	}
	return t, signing, nil
}

// readEdge reads the incomplete tiles, or makes them from the entries and the complete
// tiles below them where theirs cannot be read.
func (l *Log) readEdge(ctx context.Context, t *tree) (map[int][]byte, error) {
	if own := l.latest; own != nil && own.log == t.log && own.size == t.size && own.root == t.root {
		return own.edge, nil
	}
	if all, err := l.storage.Get(ctx, t.log.edge(t.size)); err == nil && all != nil {
		if edge, err := decodeEdge(t.size, all); err == nil && l.fits(ctx, t, edge) {
			return edge, nil
		}
	}
	edge, err := l.rebuildEdge(ctx, t.log, t.size)
	if err != nil {
		return nil, err
	}
	if !l.fits(ctx, t, edge) {
		return nil, fmt.Errorf("%w: the entries do not make the root at size %d", ErrDamaged, t.size)
	}
	return edge, nil
}

// fits reports whether incomplete tiles make the tree's root.
func (l *Log) fits(ctx context.Context, t *tree, edge map[int][]byte) bool {
	candidate := &tree{log: t.log, size: t.size, edge: edge}
	root, err := tlog.TreeHash(t.size, l.hashReader(ctx, candidate))
	return err == nil && root == t.root
}

func (l *Log) rebuildEdge(ctx context.Context, n place, size int64) (map[int][]byte, error) {
	edge := map[int][]byte{}
	for level := 0; size>>(tileHeight*level) > 0; level++ {
		width := int64(edgeWidth(size, level))
		if width == 0 {
			continue
		}
		hashes := make([]tlog.Hash, width)
		first := size>>(tileHeight*level) - width
		var err error
		if level == 0 {
			err = l.hashEntries(ctx, &tree{log: n, size: size}, first, hashes)
		} else {
			err = l.hashTiles(ctx, n, level-1, first, hashes)
		}
		if err != nil {
			return nil, err
		}
		for _, h := range hashes {
			edge[level] = append(edge[level], h[:]...)
		}
	}
	return edge, nil
}

func (l *Log) hashEntries(ctx context.Context, t *tree, first int64, hashes []tlog.Hash) error {
	leaves, err := l.leaves(ctx, t, first, first+int64(len(hashes)))
	if err != nil {
		return err
	}
	for i, leaf := range leaves {
		hashes[i] = tlog.RecordHash(leaf)
	}
	return nil
}

// hashTiles hashes complete tiles of a level to what the level above holds.
func (l *Log) hashTiles(ctx context.Context, n place, level int, first int64, hashes []tlog.Hash) error {
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(readsInFlight)
	for i := range hashes {
		g.Go(func() error {
			tile := tlog.Tile{H: tileHeight, L: level, N: first + int64(i), W: tileWidth}
			data, err := l.read(ctx, n.tile(tile))
			if err != nil {
				return err
			}
			hashes[i], err = hashTile(tile, data)
			return err
		})
	}
	return g.Wait()
}

// hashTile returns the hash at the top of a complete tile, which the tile of the level
// above holds.
func hashTile(tile tlog.Tile, data []byte) (tlog.Hash, error) {
	var halves [2]tlog.Hash
	for i := range halves {
		var err error
		index := tlog.StoredHashIndex(tileHeight*(tile.L+1)-1, 2*tile.N+int64(i))
		if halves[i], err = tlog.HashFromTile(tile, data, index); err != nil {
			return tlog.Hash{}, fmt.Errorf("%w: %w", ErrDamaged, err)
		}
	}
	return tlog.NodeHash(halves[0], halves[1]), nil
}

// rebuildTree makes a checkpoint again that cannot be read, and writes it: the entries
// of its chunk on the tree of the checkpoint before make the same bytes.
func (l *Log) rebuildTree(ctx context.Context, set *logkeys.Set, size int64) (*tree, *logkeys.Key, error) {
	n := place(set.Log)
	all, err := l.spansOf(ctx, n, size, blockOf(size))
	if err != nil {
		return nil, nil, err
	}
	last := all[len(all)-1]
	leaves, err := l.readChunk(ctx, n, last)
	if err != nil {
		return nil, nil, err
	}
	t, signing := &tree{log: n, edge: map[int][]byte{}}, set.Newest()
	if last.begin > 0 {
		text, err := l.read(ctx, n.checkpoint(last.begin))
		if err != nil {
			return nil, nil, err
		}
		if t, signing, err = l.openTree(ctx, set, last.begin, text); err != nil {
			return nil, nil, err
		}
	}
	if signing == nil {
		return nil, nil, fmt.Errorf("%w: %w", ErrDamaged, logkeys.ErrUnreadable)
	}
	g, err := l.grow(ctx, t, leaves)
	if err != nil {
		return nil, nil, err
	}
	keys := set.Signers(signing, leaves[len(leaves)-1])
	if g.next.note, err = logkeys.Sign(l.origin(n), treeOf(g.next), keys); err != nil {
		return nil, nil, err
	}
	if err := l.put(ctx, n.checkpoint(size), g.next.note); err != nil {
		return nil, nil, err
	}
	return g.next, keys[len(keys)-1], nil
}
