// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package verify

import (
	"context"
	"errors"
	"io/fs"
	"slices"
	"strings"
	"time"

	"golang.org/x/mod/sumdb/tlog"

	"github.com/vault-plugin-dek/vault-plugin-dek/evidence"
)

// Options are what the verifier has from outside.
type Options struct {
	// VKeys are verifier keys of the log. An older one vouches for those that it
	// introduced.
	VKeys []string
	// Kept is a checkpoint of the log that was kept, as a signed note. Its last line feed may
	// be missing.
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
	if options.Kept != nil {
		options.Kept = evidence.KeptCheckpoint(options.Kept)
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
		switch kept, err = evidence.ParseCheckpoint(r.options.Kept); {
		case errors.Is(err, evidence.ErrNote):
			r.result.broken(CodeKept, -1, "The checkpoint that was kept is not a signed note.")
		case err != nil:
			r.result.broken(CodeKept, -1, "The checkpoint that was kept is a signed note, but not the checkpoint of a log of this engine.")
		default:
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
