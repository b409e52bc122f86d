// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package verify

import (
	"context"

	"golang.org/x/mod/sumdb/tlog"

	"github.com/vault-plugin-dek/vault-plugin-dek/evidence"
)

// A Prover makes proofs of entries from the tiles of a log that [Log] has verified.
type Prover struct {
	ctx        context.Context //nolint:containedctx // of the reads, which take none
	source     Source
	checkpoint *evidence.Checkpoint
	tiles      map[tlog.Tile][]byte
	hashes     map[int64]tlog.Hash
}

// NewProver returns a prover for the checkpoint of a result.
func NewProver(ctx context.Context, source Source, result *Result) (*Prover, error) {
	checkpoint, err := evidence.ParseCheckpoint(result.Checkpoint)
	if err != nil {
		return nil, err
	}
	return &Prover{ctx, source, checkpoint, map[tlog.Tile][]byte{}, map[int64]tlog.Hash{}}, nil
}

// Proof returns the c2sp.org/tlog-proof@v1 text of an entry.
func (p *Prover) Proof(index int64) (string, error) {
	path, err := tlog.ProveRecord(p.checkpoint.N, index, tlog.HashReaderFunc(p.read))
	if err != nil {
		return "", err
	}
	return evidence.FormatProof(index, path, p.checkpoint.Note), nil
}

func (p *Prover) read(indexes []int64) ([]tlog.Hash, error) {
	found := make([]tlog.Hash, 0, len(indexes))
	for _, index := range indexes {
		hash, known := p.hashes[index]
		if !known {
			var err error
			if hash, err = p.hash(index); err != nil {
				return nil, err
			}
			p.hashes[index] = hash
		}
		found = append(found, hash)
	}
	return found, nil
}

// hash reads one hash from the tile that has it, at the width that the log has.
func (p *Prover) hash(index int64) (tlog.Hash, error) {
	tile := tlog.TileForIndex(tileHeight, index)
	tile.W = int(min(tileWidth, p.checkpoint.N>>(tileHeight*tile.L)-tile.N*tileWidth))
	data, read := p.tiles[tile]
	if !read {
		all, err := tileReader{p.ctx, p.source}.ReadTiles([]tlog.Tile{tile})
		if err != nil {
			return tlog.Hash{}, err
		}
		data = all[0]
		p.tiles[tile] = data
	}
	return tlog.HashFromTile(tile, data, index)
}

// Consistency returns the proof that a tree goes on from an older size. Tiles are held
// against the root of the tree, so few of them are read.
func Consistency(ctx context.Context, source Source, tree tlog.Tree, older int64) (tlog.TreeProof, error) {
	return tlog.ProveTree(tree.N, older, tlog.TileHashReader(tree, tileReader{ctx, source}))
}
