// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package verify

import (
	"context"
	"errors"
	"fmt"

	"filippo.io/torchwood"
	"golang.org/x/mod/sumdb/tlog"

	"github.com/vault-plugin-dek/vault-plugin-dek/evidence"
	"github.com/vault-plugin-dek/vault-plugin-dek/evidence/history"
)

// entries reads all entries, and reports whether they make the root of the checkpoint.
func (r *run) entries(ctx context.Context, checkpoint *evidence.Checkpoint, partial bool) (bool, error) {
	r.result.History = history.New(partial)
	s := &scanner{source: r.source, tree: newTree(), result: r.result}
	var rootErr error
	err := s.scan(ctx, checkpoint.N, func(index int64, e decoded) {
		r.entry(index, e.event, e.err)
		if _, wanted := r.want[index+1]; wanted && rootErr == nil {
			r.want[index+1], rootErr = s.tree.root()
		}
	})
	if err = errors.Join(err, rootErr); err != nil {
		return false, err
	}
	root, err := s.tree.root()
	if err != nil {
		return false, err
	}
	if root == checkpoint.Hash && s.tree.size == checkpoint.N {
		for _, path := range s.tiles {
			r.result.broken(CodeTile, -1, "The tile %s is not what the entries make; the entries are those that were signed.", path)
		}
		r.result.holds(CodeRoot, "The %s make the root hash of the checkpoint: none was altered, added, taken out or moved.",
			entries(checkpoint.N))
		return true, nil
	}
	r.unrooted(ctx, s, checkpoint)
	return false, nil
}

// unrooted says what is wrong with entries that do not make the root.
func (r *run) unrooted(ctx context.Context, s *scanner, checkpoint *evidence.Checkpoint) {
	if r.tilesMake(ctx, checkpoint) {
		r.result.Broken = append(r.result.Broken, s.suspects.Broken...)
	} else {
		for _, path := range s.tiles {
			r.result.broken(CodeTile, -1, "The tile %s is not what the entries make.", path)
		}
	}
	r.result.broken(CodeRoot, -1,
		"The entries do not make the root hash of the checkpoint: they are not those that were signed.")
}

// tilesMake reports whether the tiles make the root of the checkpoint: then entries that
// differ from them were altered.
func (r *run) tilesMake(ctx context.Context, checkpoint *evidence.Checkpoint) bool {
	reader := tlog.TileHashReader(checkpoint.Tree, tileReader{ctx, r.source})
	for n := int64(0); n < checkpoint.N; n += tileWidth {
		if _, err := reader.ReadHashes([]int64{tlog.StoredHashIndex(0, n)}); err != nil {
			return false
		}
	}
	return true
}

// tileReader reads tiles for [tlog.TileHashReader], which holds them against the root.
type tileReader struct {
	ctx    context.Context //nolint:containedctx // the interface has none
	source Source
}

func (t tileReader) Height() int { return tileHeight }

func (t tileReader) ReadTiles(tiles []tlog.Tile) ([][]byte, error) {
	all := make([][]byte, 0, len(tiles))
	for _, tile := range tiles {
		data, err := t.source.Read(t.ctx, torchwood.TilePath(tile))
		if err != nil {
			return nil, err
		}
		if len(data) != tile.W*tlog.HashSize {
			return nil, fmt.Errorf("%s has another size", torchwood.TilePath(tile))
		}
		all = append(all, data)
	}
	return all, nil
}

func (t tileReader) SaveTiles([]tlog.Tile, [][]byte) {}
