// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package evidencelog

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"

	"golang.org/x/mod/sumdb/tlog"
	"golang.org/x/sync/errgroup"

	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/logkeys"
	"github.com/vault-plugin-dek/vault-plugin-dek/evidence"
)

// readsInFlight bounds the entries that are read at once.
const readsInFlight = 32

// errRightEdge says that what fails is needed to append.
var errRightEdge = errors.New("the right edge of the evidence log")

// adopt takes over what storage holds, under an epoch of its own: the log of the
// greatest number, as of the greatest checkpoint that a List shows, whoever wrote it,
// and with the chunk that begins there, if one does. A mount without a log gets its
// first key.
func (l *Log) adopt(ctx context.Context) error {
	epoch, err := l.beginEpoch(ctx)
	if err != nil {
		return err
	}
	set, err := logkeys.Read(ctx, l.storage)
	if err != nil {
		return err
	}
	set.Log = max(set.Log, 1)
	var t *tree
	var signing *logkeys.Key
	for completed := true; completed; {
		if set, t, signing, err = l.readLog(ctx, set, epoch); err != nil {
			return err
		}
		if completed, err = l.complete(ctx, set, t, signing, epoch); err != nil {
			return err
		}
	}
	recent, built, err := l.readIndex(ctx, t)
	if err != nil {
		return err
	}
	l.install(t, set, signing, recent, built, epoch)
	return l.findEdges(ctx, t)
}

// epochsKept is how many epochs of appenders that have been replaced may lie in
// storage.
const epochsKept = 16

// beginEpoch takes the next epoch: one more than the greatest that a List shows.
func (l *Log) beginEpoch(ctx context.Context) (int64, error) {
	names, err := l.storage.List(ctx, prefixEpochs)
	if err != nil {
		return 0, err
	}
	all := sizes(names)
	slices.Sort(all)
	epoch := int64(1)
	if len(all) > 0 {
		epoch += all[len(all)-1]
	}
	if err := l.put(ctx, prefixEpochs+sizeName(epoch), []byte{'1'}); err != nil {
		return 0, err
	}
	if len(all) > epochsKept {
		for _, old := range all { // the own is the greatest
			if err := l.storage.Delete(ctx, prefixEpochs+sizeName(old)); err != nil {
				l.report(err)
			}
		}
	}
	return epoch, nil
}

// stillOwn reports ErrSuperseded if another appender has begun.
func (l *Log) stillOwn(ctx context.Context, epoch int64) error {
	var names []string
	err := l.persist(ctx, func(ctx context.Context) (err error) {
		names, err = l.storage.List(ctx, prefixEpochs)
		return err
	})
	if err != nil {
		return err
	}
	if all := sizes(names); len(all) > 0 && slices.Max(all) > epoch {
		return ErrSuperseded
	}
	return nil
}

// readLog reads a log as of its greatest checkpoint, with the key that signs it.
func (l *Log) readLog(ctx context.Context, set *logkeys.Set, epoch int64) (*logkeys.Set, *tree, *logkeys.Key, error) {
	n := place(set.Log)
	size, err := l.greatest(ctx, n)
	if err != nil {
		return nil, nil, nil, err
	}
	if size > 0 {
		t, signing, err := l.readTree(ctx, set, size)
		if err != nil {
			return nil, nil, nil, fmt.Errorf("%w: %w", errRightEdge, err)
		}
		return set, t, signing, nil
	}
	t := &tree{log: n, edge: map[int][]byte{}}
	if t.root, err = tlog.TreeHash(0, nil); err != nil {
		return nil, nil, nil, err
	}
	signing := set.Newest()
	if signing == nil {
		if signing, err = l.newKey(ctx, set, epoch, nil); err != nil {
			return nil, nil, nil, err
		}
		set = set.With(signing)
	}
	return set, t, signing, nil
}

// newKey makes the next key of a log. The key signs nothing before its Put succeeded.
func (l *Log) newKey(ctx context.Context, set *logkeys.Set, epoch int64, event *evidence.Head) (*logkeys.Key, error) {
	k, entry, raw, err := set.Make(l.random, l.origin(place(set.Log)), epoch, l.now(), event)
	if err != nil {
		return nil, err
	}
	return k, l.persist(ctx, func(ctx context.Context) error { return l.storage.PutSealWrapped(ctx, entry, raw) })
}

// complete completes a chunk that begins where the greatest checkpoint ends, if there is
// one: its entries may have been signed, by an appender that did not get to storing the
// checkpoint. Of several, the one of the greatest epoch that shows; one that is listed
// and does not show was not put with success, so it was not signed. The chunk is put
// again under the own epoch, by which readers find it.
func (l *Log) complete(ctx context.Context, set *logkeys.Set, t *tree, signing *logkeys.Key, epoch int64) (bool, error) {
	names, err := l.storage.List(ctx, t.log.block("chunk", blockOf(t.size+1)))
	if err != nil {
		return false, err
	}
	found := slices.DeleteFunc(spans(names), func(s span) bool { return s.begin != t.size })
	slices.SortFunc(found, func(a, b span) int { return cmp.Compare(b.epoch, a.epoch) })
	for _, s := range found {
		data, err := l.storage.Get(ctx, t.log.chunk(s))
		if err != nil {
			return false, fmt.Errorf("%w: %w: %w", errRightEdge, ErrDamaged, err)
		}
		if data == nil {
			continue
		}
		leaves, err := decodeChunk(data)
		if err == nil && int64(len(leaves)) != s.end-s.begin {
			err = fmt.Errorf("%w: %s", ErrDamaged, s.name())
		}
		if err != nil {
			return false, fmt.Errorf("%w: %w", errRightEdge, err)
		}
		_, err = l.commit(ctx, t, leaves, set.Signers(signing, leaves[len(leaves)-1]), epoch)
		return err == nil, err
	}
	return false, nil
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

func (l *Log) install(t *tree, set *logkeys.Set, signing *logkeys.Key, recent []record, built []int64, epoch int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.tails.Purge()
	if l.tree == nil {
		close(l.opened)
	}
	l.tree, l.keys, l.key, l.recent, l.built, l.epoch = t, set, signing, recent, built, epoch
}

// greatest finds the greatest checkpoint of a log, 0 if it has none. No block before it
// is empty, so a search by halves finds its block.
func (l *Log) greatest(ctx context.Context, n place) (int64, error) {
	full, empty := int64(-1), int64(0) // blocks known to be so; those between are not known
	var best int64
	probe := func(block int64) (bool, error) {
		names, err := l.storage.List(ctx, n.block("checkpoint", block))
		if all := sizes(names); err == nil && len(all) > 0 {
			full, best = block, slices.Max(all)
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
