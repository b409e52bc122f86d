// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package evidencelog

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"golang.org/x/mod/sumdb/tlog"
	"golang.org/x/sync/errgroup"

	"github.com/vault-plugin-dek/vault-plugin-dek/evidence"
)

// readsInFlight bounds the entries that are read at once.
const readsInFlight = 32

// errRightEdge says that what fails is needed to append.
var errRightEdge = errors.New("the right edge of the evidence log")

// adopt takes over what storage holds: the log of the greatest number, as of the
// greatest checkpoint that a List shows. A mount without a log gets its first key.
func (l *Log) adopt(ctx context.Context) error {
	set, err := l.readKeys(ctx)
	if err != nil {
		return err
	}
	if set.log == 0 {
		set.log = 1
	}
	size, err := l.greatest(ctx, set.log)
	if err != nil {
		return err
	}
	t := &tree{log: set.log, edge: map[int][]byte{}}
	var signing *key
	if size == 0 {
		if t.root, err = tlog.TreeHash(0, nil); err != nil {
			return err
		}
		if signing = set.newest(); signing == nil {
			if signing, err = l.newKey(ctx, set.log, set.greatest+1, nil); err != nil {
				return err
			}
			set.keys, set.greatest = append(set.keys, signing), signing.number
		}
	} else if t, signing, err = l.readTree(ctx, set, size); err != nil {
		return fmt.Errorf("%w: %w", errRightEdge, err)
	}
	recent, built, err := l.readIndex(ctx, t)
	if err != nil {
		return err
	}
	l.install(t, set, signing, recent, built)
	return l.findEdges(ctx, t)
}

// findEdges looks for edges that a process before left undeleted.
func (l *Log) findEdges(ctx context.Context, t *tree) error {
	names, err := l.storage.List(ctx, t.log.prefix("edge"))
	if err != nil {
		return err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.edges = slices.DeleteFunc(sizes(names), func(size int64) bool { return size >= t.size })
	return nil
}

func (l *Log) install(t *tree, set *keyset, signing *key, recent []record, built []int64) {
	l.tails.Purge()
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.tree == nil {
		close(l.opened)
	}
	l.tree, l.keys, l.key, l.recent, l.built = t, set, signing, recent, built
}

// greatest finds the greatest checkpoint of a log, 0 if it has none. No epoch before it
// is empty, so a search by halves finds its epoch.
func (l *Log) greatest(ctx context.Context, n place) (int64, error) {
	full, empty := int64(-1), int64(0) // epochs known to be so; those between are not known
	var best int64
	probe := func(epoch int64) (bool, error) {
		names, err := l.storage.List(ctx, n.epoch("checkpoint", epoch))
		if all := sizes(names); err == nil && len(all) > 0 {
			full, best = epoch, slices.Max(all)
			return true, nil
		}
		return false, err
	}
	for {
		found, err := probe(empty)
		if err != nil {
			return 0, err
		}
		if !found {
			break
		}
		empty = 2*empty + 1
	}
	for empty-full > 1 {
		middle := full + (empty-full)/2
		found, err := probe(middle)
		if err != nil {
			return 0, err
		}
		if !found {
			empty = middle
		}
	}
	return best, nil
}

// readTree reads the tree as of a checkpoint that List shows.
func (l *Log) readTree(ctx context.Context, set *keyset, size int64) (*tree, *key, error) {
	text, err := l.storage.Get(ctx, set.log.checkpoint(size))
	if err == nil && text != nil {
		return l.openTree(ctx, set, size, text)
	}
	// The note is hidden behind a stale cache, or damaged. The same entries make the
	// same note.
	return l.rebuildTree(ctx, set, size)
}

func (l *Log) openTree(ctx context.Context, set *keyset, size int64, text []byte) (*tree, *key, error) {
	c, err := evidence.OpenCheckpoint(text, set.vkeys()...)
	if err != nil {
		return nil, nil, fmt.Errorf("%w: the checkpoint at size %d: %w", ErrDamaged, size, err)
	}
	if c.N != size || c.Origin != l.origin(set.log) {
		return nil, nil, fmt.Errorf("%w: the checkpoint at size %d is another one", ErrDamaged, size)
	}
	signing, err := set.current(c.Keys)
	if err != nil {
		return nil, nil, err
	}
	t := &tree{log: set.log, size: size, root: c.Hash, note: text}
	if t.edge, err = l.readEdge(ctx, t); err != nil {
		return nil, nil, err
	}
	return t, signing, nil
}

// readEdge reads the incomplete tiles, or makes them from the entries and the complete
// tiles below them where theirs cannot be read.
func (l *Log) readEdge(ctx context.Context, t *tree) (map[int][]byte, error) {
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
func (l *Log) rebuildTree(ctx context.Context, set *keyset, size int64) (*tree, *key, error) {
	leaves, err := l.readChunk(ctx, set.log, size)
	if err != nil {
		return nil, nil, err
	}
	before := size - int64(len(leaves))
	t, signing := &tree{log: set.log, edge: map[int][]byte{}}, set.newest()
	if before > 0 {
		text, err := l.read(ctx, set.log.checkpoint(before))
		if err != nil {
			return nil, nil, err
		}
		if t, signing, err = l.openTree(ctx, set, before, text); err != nil {
			return nil, nil, err
		}
	}
	if signing == nil {
		return nil, nil, fmt.Errorf("%w: %w", ErrDamaged, errNoKey)
	}
	g, err := l.grow(ctx, t, leaves)
	if err != nil {
		return nil, nil, err
	}
	keys := set.signers(signing, leaves)
	if g.next.note, err = sign(l.origin(set.log), g.next, keys); err != nil {
		return nil, nil, err
	}
	if err := l.storage.Put(ctx, set.log.checkpoint(size), g.next.note); err != nil {
		return nil, nil, err
	}
	return g.next, keys[len(keys)-1], nil
}
