// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

// Package restored tells which keys and tenants are there again after storage went back,
// as after a restored snapshot, that had been destroyed.
//
// Storage that went back does not know what was done after it: neither the log, nor a
// record, nor a tombstone has it, and a checkpoint is only a size and a hash. The entries
// that the mount's log lacks say it. So the caller hands them in, from an export that was
// kept outside. They count only if they make the tree of the checkpoint together with
// what the mount's log has before them.
package restored

import (
	"context"
	"errors"
	"fmt"

	"filippo.io/torchwood"
	"golang.org/x/mod/sumdb/tlog"

	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/evidencelog"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/keystore"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/tenant"
	"github.com/vault-plugin-dek/vault-plugin-dek/evidence"
)

// ErrEntries reports entries that are not the last ones of the kept log, or that begin
// after the place up to which the mount's log is the same.
var ErrEntries = errors.New("entries must be the leaves of the kept log in their order, up to its checkpoint, " +
	"and begin no later than where the mount's log ceases to be the same")

// Config has the rooms of a mount.
type Config struct {
	Log     *evidencelog.Log
	Keys    *keystore.Store
	Tenants *tenant.Store
}

// Engine compares a mount with entries that its log lacks. It changes nothing.
type Engine struct {
	log     *evidencelog.Log
	keys    *keystore.Store
	tenants *tenant.Store
}

// NewEngine returns an Engine.
func NewEngine(c Config) *Engine { return &Engine{c.Log, c.Keys, c.Tenants} }

// Back is what came back.
type Back struct {
	// Missing is how many of the entries the mount's log lacks.
	Missing int64
	Keys    []evidence.KeyDestroyed // as the entries say that they were destroyed
	Of      []string                // the tenants of Keys, one each; empty: the mount's
	Tenants []string                // those that had been shredded
}

// CameBack returns what the last entries of a kept log say was destroyed, and is there. It
// fails with [ErrEntries], or [evidence.ErrCheckpoint] for a checkpoint that is none.
func (e *Engine) CameBack(ctx context.Context, kept []byte, leaves [][]byte) (*Back, error) {
	c, err := evidence.ParseCheckpoint(kept)
	if err != nil {
		return nil, err
	}
	first := c.N - int64(len(leaves))
	if err := e.belong(ctx, c, first, leaves); err != nil {
		return nil, err
	}
	lacked, err := e.lacked(ctx, first, leaves)
	if err != nil {
		return nil, err
	}
	s := search{Engine: e, back: &Back{Missing: int64(len(lacked))}, present: map[string]map[string]bool{}}
	for _, leaf := range lacked {
		if err := s.look(ctx, leaf); err != nil {
			return nil, err
		}
	}
	return s.back, nil
}

// belong makes sure that the entries follow on the first ones of the mount's log, and end
// the tree of the kept checkpoint.
func (e *Engine) belong(ctx context.Context, c *evidence.Checkpoint, first int64, leaves [][]byte) error {
	root, err := e.log.Root(ctx, first)
	if errors.Is(err, evidencelog.ErrNotFound) {
		return ErrEntries
	}
	if err != nil {
		return err
	}
	more := map[int64]tlog.Hash{}
	own := tlog.TileHashReader(tlog.Tree{N: first, Hash: root}, tiles{ctx, e.log})
	reader := tlog.HashReaderFunc(func(indexes []int64) ([]tlog.Hash, error) {
		return readHashes(indexes, more, own)
	})
	for i, leaf := range leaves {
		at := first + int64(i)
		hashes, err := tlog.StoredHashesForRecordHash(at, tlog.RecordHash(leaf), reader)
		if err != nil {
			return fmt.Errorf("making a tree of entries: %w", err)
		}
		for k, hash := range hashes {
			more[tlog.StoredHashIndex(0, at)+int64(k)] = hash
		}
	}
	got, err := tlog.TreeHash(c.N, reader)
	if err != nil {
		return fmt.Errorf("making a tree of entries: %w", err)
	}
	if got != c.Hash {
		return ErrEntries
	}
	return nil
}

// readHashes reads hashes of the entries that were handed in, and others of the log.
func readHashes(indexes []int64, more map[int64]tlog.Hash, own tlog.HashReader) ([]tlog.Hash, error) {
	hashes := make([]tlog.Hash, len(indexes))
	var rest []int64
	var places []int
	for i, index := range indexes {
		if hash, found := more[index]; found {
			hashes[i] = hash
			continue
		}
		rest, places = append(rest, index), append(places, i)
	}
	if len(rest) == 0 {
		return hashes, nil
	}
	found, err := own.ReadHashes(rest)
	if err != nil {
		return nil, err
	}
	for i, hash := range found {
		hashes[places[i]] = hash
	}
	return hashes, nil
}

// lacked returns the entries that the mount's log does not have in their places.
func (e *Engine) lacked(ctx context.Context, first int64, leaves [][]byte) ([][]byte, error) {
	for i, leaf := range leaves {
		own, err := e.log.Entry(ctx, first+int64(i))
		switch {
		case errors.Is(err, evidencelog.ErrNotFound), err == nil && string(own) != string(leaf):
			return leaves[i:], nil
		case err != nil:
			return nil, err
		}
	}
	return nil, nil
}

// tiles are those of the mount's log.
type tiles struct {
	ctx context.Context //nolint:containedctx // tlog's interface has no other way
	log *evidencelog.Log
}

// Height is that of tlog-tiles.
func (tiles) Height() int { return torchwood.TileHeight }

// ReadTiles reads tiles, as [tlog.TileReader] has it.
func (t tiles) ReadTiles(wanted []tlog.Tile) ([][]byte, error) {
	found := make([][]byte, len(wanted))
	for i, tile := range wanted {
		data, err := t.log.Tile(t.ctx, torchwood.TilePath(tile))
		if err != nil {
			return nil, err
		}
		found[i] = data
	}
	return found, nil
}

// SaveTiles keeps nothing.
func (tiles) SaveTiles([]tlog.Tile, [][]byte) {}
