// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package verify

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"time"

	"filippo.io/torchwood"
	"golang.org/x/mod/sumdb/tlog"

	"github.com/vault-plugin-dek/vault-plugin-dek/evidence"
	"github.com/vault-plugin-dek/vault-plugin-dek/evidence/history"
)

// Options are what the verifier has from outside.
type Options struct {
	// VKeys are verifier keys of the log. An older one vouches for those that it
	// introduced.
	VKeys []string
	// Kept is a checkpoint of the log that was kept, as a signed note.
	Kept []byte
	// Witnesses are verifier keys of witnesses who must have cosigned the log.
	Witnesses []string
	// Previous is the log before, which a log after the first needs.
	Previous Source
	// Each, if set, is called with each entry that is an event, in order, before it is known
	// whether the log verifies.
	Each func(index int64, e *evidence.Event)
	// Now is when keys must have been destroyed and tenants rotated, the present time if
	// it is zero.
	Now time.Time
}

// run is one verification.
type run struct {
	source  Source
	options Options
	result  *Result
	trusted []string            // keys that are vouched for
	own     []string            // keys that the log names itself
	want    map[int64]tlog.Hash // roots at sizes, filled in while the entries are read
	first   *evidence.LogStarted
	rotated []rotation
}

// rotation is a new key that an entry names.
type rotation struct {
	index    int64
	old, new string
}

// Log verifies a log. The error is of the source; whatever is wrong with the log is in
// the result.
func Log(ctx context.Context, source Source, options Options) (*Result, error) {
	if options.Now.IsZero() {
		options.Now = time.Now()
	}
	r := &run{
		source: source, options: options, result: &Result{Holds: []Finding{}, Broken: []Finding{}},
		want: map[int64]tlog.Hash{},
	}
	if err := r.verify(ctx); err != nil {
		return nil, err
	}
	return r.result, nil
}

func (r *run) verify(ctx context.Context) error {
	text, err := r.source.Read(ctx, FileCheckpoint)
	if errors.Is(err, fs.ErrNotExist) {
		r.result.broken(CodeMissing, -1, "There is no checkpoint.")
		return nil
	} else if err != nil {
		return err
	}
	keys, err := optional(ctx, r.source, FileKeys)
	if err != nil {
		return err
	}
	r.own = strings.Fields(string(keys))
	r.trusted = slices.Clone(r.options.VKeys)
	checkpoint, err := evidence.ParseCheckpoint(text)
	if errors.Is(err, evidence.ErrCheckpoint) {
		r.result.broken(CodeCheckpoint, -1, "The checkpoint is not a signed note of a log of this engine.")
		return nil
	} else if err != nil {
		return err
	}
	_, number, err := evidence.ParseOrigin(checkpoint.Origin)
	if err != nil {
		return err
	}
	r.result.Origin, r.result.Size, r.result.Root = checkpoint.Origin, checkpoint.N, checkpoint.Hash.String()
	r.result.Checkpoint = text
	kept, cosigned, err := r.outside(ctx, checkpoint)
	if err != nil {
		return err
	}
	rooted, err := r.entries(ctx, checkpoint, number > 1)
	if err != nil {
		return err
	}
	if err := r.signature(ctx, text); err != nil {
		return err
	}
	r.kept(kept, checkpoint, rooted)
	r.witnesses(cosigned, checkpoint, rooted)
	if err := r.previous(ctx, number); err != nil {
		return err
	}
	r.content(rooted)
	return nil
}

// outside reads what the log is compared with, and which roots that needs.
func (r *run) outside(ctx context.Context, checkpoint *evidence.Checkpoint) (kept, cosigned *evidence.Checkpoint, err error) {
	if r.options.Kept != nil {
		if kept, err = evidence.ParseCheckpoint(r.options.Kept); err != nil {
			r.result.broken(CodeKept, -1, "The checkpoint that was kept is not a signed note of a log of this engine.")
		} else {
			r.want[kept.N] = tlog.Hash{}
		}
	}
	if len(r.options.Witnesses) > 0 {
		text, err := optional(ctx, r.source, FileCosigned)
		if err != nil {
			return nil, nil, err
		}
		if text == nil {
			text = checkpoint.Note
		}
		if cosigned, err = evidence.ParseCheckpoint(text); err != nil {
			r.result.broken(CodeWitness, -1, "The cosigned checkpoint is not a signed note of a log of this engine.")
		} else {
			r.want[cosigned.N] = tlog.Hash{}
		}
	}
	return kept, cosigned, nil
}

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

// entry takes one entry.
func (r *run) entry(index int64, event *evidence.Event, err error) {
	switch {
	case errors.Is(err, evidence.ErrUnknownType):
		r.result.History.AddUnknown(index)
		return
	case err != nil:
		r.result.History.AddMalformed(index, err)
		return
	}
	r.result.History.Add(index, event)
	if r.options.Each != nil {
		r.options.Each(index, event)
	}
	switch d := event.Detail.(type) {
	case *evidence.LogStarted:
		if index == 0 {
			r.first = d
		}
	case *evidence.KeyRotated:
		r.rotated = append(r.rotated, rotation{index, d.Old, d.New})
		r.want[index+1] = tlog.Hash{}
	}
}

// content judges what the entries say.
func (r *run) content(rooted bool) {
	if r.first == nil && r.result.Size > 0 {
		r.result.broken(history.CodeMissing, 0, "The first entry does not say which plugin began the log.")
	}
	wrong := map[string]bool{}
	for _, p := range r.result.History.Finish(r.options.Now) {
		wrong[p.Code] = true
		r.result.Broken = append(r.result.Broken, Finding{Code: p.Code, Index: p.Index, TenantID: p.TenantID, Text: p.Text})
	}
	if rooted {
		r.summarize(wrong)
	}
}

// summarize says what holds of the content: of each rule that nothing breaks.
func (r *run) summarize(wrong map[string]bool) {
	if wrong[history.CodeUnknown] || wrong[history.CodeMalformed] {
		return // what was not read cannot be judged
	}
	completed, destroyed := 0, 0
	tenants := r.result.History.Tenants()
	for _, t := range tenants {
		for _, rotation := range t.Rotations {
			if rotation.Status == "completed" {
				completed++
			}
		}
		for _, v := range t.Versions {
			if v.Destroyed[evidence.WhichPage] != nil {
				destroyed++
			}
		}
	}
	for _, rule := range []struct {
		codes []string
		text  string
	}{
		{
			[]string{history.CodeGap, history.CodeOrder, history.CodeRepeated, history.CodeMissing},
			fmt.Sprintf("No event is missing: the sequences of the mount and of %s have no gap.", counted(len(tenants), "tenant")),
		},
		{
			[]string{history.CodePagesLeft},
			fmt.Sprintf("Each completed rotation left 0 pages on the key that it replaced: %s.", counted(completed, "rotation")),
		},
		{
			[]string{history.CodeNotDestroyed, history.CodeEarly, history.CodeActive},
			fmt.Sprintf("Each key that was replaced was destroyed after its retention, or its retention lasts: %s destroyed.",
				counted(destroyed, "page key")),
		},
		{[]string{history.CodeLate}, "Each tenant was rotated within its interval."},
	} {
		if !slices.ContainsFunc(rule.codes, func(code string) bool { return wrong[code] }) {
			r.result.holds(rule.codes[0], "%s", rule.text)
		}
	}
}

func counted(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}
