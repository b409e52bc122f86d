// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package evidencelog

import (
	"cmp"
	"context"
	"fmt"
	"slices"

	"filippo.io/torchwood"
	"golang.org/x/mod/sumdb/tlog"
	"golang.org/x/sync/errgroup"

	"github.com/vault-plugin-dek/vault-plugin-dek/evidence"
)

// MaxPage is how many indexes a list has at most.
const MaxPage = 1000

// spansOf lists the chunks of a block that count in a log of a size, in their order: for
// each checkpoint the chunk that begins at the checkpoint before, ends at it, and has the
// greatest epoch. Others are what appenders left that were replaced.
func (l *Log) spansOf(ctx context.Context, n place, size, block int64) ([]span, error) {
	key := fmt.Sprintf("%d/%d/%d", n, block, min(size, (block+1)*blockSize)) // what has come up to there does not change
	if all, cached := l.blocks.Get(key); cached {
		return all, nil
	}
	checkpoints, err := l.storage.List(ctx, n.block("checkpoint", block))
	if err != nil {
		return nil, err
	}
	chunks, err := l.storage.List(ctx, n.block("chunk", block))
	if err != nil {
		return nil, err
	}
	type bounds struct{ begin, end int64 }
	greatest := map[bounds]int64{}
	for _, s := range spans(chunks) {
		b := bounds{s.begin, s.end}
		greatest[b] = max(greatest[b], s.epoch)
	}
	ends := slices.DeleteFunc(sizes(checkpoints), func(end int64) bool { return end > size })
	slices.Sort(ends)
	begin := block * blockSize
	var all []span
	for _, end := range ends {
		epoch := greatest[bounds{begin, end}]
		if epoch == 0 {
			return nil, fmt.Errorf("%w: no chunk ends at size %d", ErrDamaged, end)
		}
		all = append(all, span{begin, end, epoch})
		begin = end
	}
	if len(all) == 0 {
		return nil, fmt.Errorf("%w: no checkpoint ends in block %d", ErrDamaged, block)
	}
	l.blocks.Add(key, all)
	return all, nil
}

// spanOf finds the chunk that has an entry.
func (l *Log) spanOf(ctx context.Context, t *tree, index int64) (span, error) {
	all, err := l.spansOf(ctx, t.log, t.size, index/blockSize)
	if err != nil {
		return span{}, err
	}
	at, _ := slices.BinarySearchFunc(all, index+1, func(s span, end int64) int { return cmp.Compare(s.end, end) })
	if at < len(all) {
		return all[at], nil
	}
	return span{}, fmt.Errorf("%w: no checkpoint has entry %d", ErrDamaged, index)
}

func (l *Log) readChunk(ctx context.Context, n place, s span) ([][]byte, error) {
	key := n.chunk(s)
	if leaves, cached := l.chunks.Get(key); cached {
		return leaves, nil
	}
	data, err := l.read(ctx, key)
	if err != nil {
		return nil, err
	}
	leaves, err := decodeChunk(data)
	if err != nil {
		return nil, err
	}
	if int64(len(leaves)) != s.end-s.begin {
		return nil, fmt.Errorf("%w: %s", ErrDamaged, key)
	}
	return leaves, nil
}

// leaves reads entries, the bytes that were hashed.
func (l *Log) leaves(ctx context.Context, t *tree, from, to int64) ([][]byte, error) {
	if from < 0 || to > t.size || from > to {
		return nil, ErrNotFound
	}
	found := make([][]byte, to-from)
	err := l.eachLeafOf(ctx, t, from, to, func(index int64, leaf []byte) { found[index-from] = leaf }, nil)
	if err != nil {
		return nil, err
	}
	for i, leaf := range found {
		if leaf == nil {
			return nil, fmt.Errorf("%w: entry %d", ErrDamaged, from+int64(i))
		}
	}
	return found, nil
}

// eachLeaf calls f for each entry in order. Where ctx says so, it leaves out entries
// whose chunk cannot be read.
func (l *Log) eachLeaf(ctx context.Context, t *tree, from, to int64, f func(int64, []byte)) error {
	var skip func(error) bool
	if skips(ctx) {
		skip = func(err error) bool {
			l.report(err)
			return ctx.Err() == nil
		}
	}
	return l.eachLeafOf(ctx, t, from, to, f, skip)
}

func (l *Log) eachLeafOf(ctx context.Context, t *tree, from, to int64,
	f func(int64, []byte), skip func(error) bool,
) error {
	all, err := l.spansWith(ctx, t, from, to)
	if err != nil {
		return err
	}
	for len(all) > 0 {
		some := all[:min(len(all), readsInFlight)]
		all = all[len(some):]
		chunks := make([][][]byte, len(some))
		g, groupCtx := errgroup.WithContext(ctx)
		for i, s := range some {
			g.Go(func() error {
				var err error
				chunks[i], err = l.readChunk(groupCtx, t.log, s)
				if err != nil && skip != nil && skip(err) {
					return nil
				}
				return err
			})
		}
		if err := g.Wait(); err != nil {
			return err
		}
		for i, leaves := range chunks {
			for k, leaf := range leaves {
				if index := some[i].begin + int64(k); index >= from && index < to {
					f(index, leaf)
				}
			}
		}
	}
	return nil
}

// spansWith lists the chunks that have some of the entries.
func (l *Log) spansWith(ctx context.Context, t *tree, from, to int64) ([]span, error) {
	var found []span
	for block := from / blockSize; from < to; block++ {
		all, err := l.spansOf(ctx, t.log, t.size, block)
		if err != nil {
			return nil, err
		}
		if all[len(all)-1].end <= from {
			return nil, fmt.Errorf("%w: no checkpoint has entry %d", ErrDamaged, from)
		}
		for _, s := range all {
			if s.end > from && from < to {
				found, from = append(found, s), s.end
			}
		}
	}
	return found, nil
}

// Entry returns the bytes of an entry, [ErrNotFound] beyond the log.
func (l *Log) Entry(ctx context.Context, index int64) ([]byte, error) {
	t, err := l.snapshot(ctx)
	if err != nil {
		return nil, err
	}
	if index < 0 || index >= t.size {
		return nil, ErrNotFound
	}
	s, err := l.spanOf(ctx, t, index)
	if err != nil {
		return nil, err
	}
	leaves, err := l.readChunk(ctx, t.log, s)
	if err != nil {
		return nil, err
	}
	l.chunks.Add(t.log.chunk(s), leaves)
	return leaves[index-s.begin], nil
}

// Proof returns a c2sp.org/tlog-proof@v1 text for an entry: for the checkpoint of a
// size, or for the present one if size is 0.
func (l *Log) Proof(ctx context.Context, index, size int64) (string, error) {
	t, err := l.snapshot(ctx)
	if err != nil {
		return "", err
	}
	if size == 0 {
		size = t.size
	}
	if index < 0 || size > t.size || index >= size {
		return "", ErrNotFound
	}
	checkpoint, err := l.checkpointAt(ctx, t, size)
	if err != nil {
		return "", err
	}
	path, err := tlog.ProveRecord(size, index, l.hashReader(ctx, t))
	if err != nil {
		return "", err
	}
	return evidence.FormatProof(index, path, checkpoint), nil
}

func (l *Log) checkpointAt(ctx context.Context, t *tree, size int64) ([]byte, error) {
	switch {
	case size == t.size && size > 0:
		return t.note, nil
	case size < 1 || size > t.size:
		return nil, ErrNotFound
	}
	note, err := l.storage.Get(ctx, t.log.checkpoint(size))
	switch {
	case err != nil:
		return nil, fmt.Errorf("%w: %w", ErrDamaged, err)
	case note == nil:
		return nil, fmt.Errorf("%w: there is no checkpoint of size %d", ErrNotFound, size)
	}
	return note, nil
}

// Checkpoint returns the signed note of a size, or the present one if size is 0.
func (l *Log) Checkpoint(ctx context.Context, size int64) ([]byte, error) {
	t, err := l.snapshot(ctx)
	if err != nil {
		return nil, err
	}
	if size == 0 {
		size = t.size
	}
	return l.checkpointAt(ctx, t, size)
}

// Tile returns a tile or a bundle of entries by its path in tlog-tiles, such as
// tile/0/000 or tile/entries/000.p/17.
func (l *Log) Tile(ctx context.Context, path string) ([]byte, error) {
	tile, err := torchwood.ParseTilePath(path)
	if err != nil || tile.L > 5 || tile.N > 1<<40 {
		return nil, ErrNotFound
	}
	t, err := l.snapshot(ctx)
	if err != nil {
		return nil, err
	}
	if tile.L >= 0 {
		return l.tile(ctx, t, tile)
	}
	first := tile.N * tileWidth
	leaves, err := l.leaves(ctx, t, first, first+int64(tile.W))
	if err != nil {
		return nil, err
	}
	return encodeChunk(leaves)
}

// Tenant lists the indexes of the entries about a tenant that come after an index, at
// most limit and MaxPage. The first page is after -1.
func (l *Log) Tenant(ctx context.Context, tenantID string, after int64, limit int) ([]int64, error) {
	t, err := l.snapshot(ctx)
	if err != nil {
		return nil, err
	}
	limit = max(0, min(limit, MaxPage))
	return l.index.Tenant(ctx, t.at(), tenantID, after, limit)
}
