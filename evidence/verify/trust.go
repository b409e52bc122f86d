// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package verify

import (
	"context"
	"errors"
	"io/fs"
	"slices"

	"github.com/vault-plugin-dek/vault-plugin-dek/evidence"
	"github.com/vault-plugin-dek/vault-plugin-dek/evidence/history"
)

// signature holds the checkpoint's signature against the keys from outside, and those
// that they introduced.
func (r *run) signature(ctx context.Context, text []byte) error {
	if err := r.follow(ctx, &r.trusted, len(r.options.VKeys) > 0); err != nil {
		return err
	}
	signed, isKey := signedBy(text, r.trusted)
	bySelf, _ := signedBy(text, r.own)
	switch {
	case !isKey:
		r.result.broken(CodeSignature, -1, "The key that was given is not a verifier key.")
	case signed:
		r.result.Trusted = true
		r.result.holds(CodeSignature, "The checkpoint of %s is signed by the key of %s.", entries(r.result.Size), r.result.Origin)
	case len(r.options.VKeys) > 0:
		r.result.broken(CodeSignature, -1,
			"The checkpoint is not signed by the key that was given, nor by one that it introduced.")
	case bySelf:
		r.result.holds(CodeSignature, "The checkpoint of %s is signed by the key that the log names itself.", entries(r.result.Size))
	default:
		r.result.broken(CodeSignature, -1, "The checkpoint is not signed by the key that the log names.")
	}
	return nil
}

// signedBy reports whether one of keys signed a checkpoint, and whether all are keys.
func signedBy(text []byte, keys []string) (signed, areKeys bool) {
	_, err := evidence.OpenCheckpoint(text, keys...)
	return err == nil, !errors.Is(err, evidence.ErrKey)
}

// follow adds the keys that known ones introduced. The checkpoint that ends with the
// entry must have both signatures and the root of the entries.
func (r *run) follow(ctx context.Context, known *[]string, report bool) error {
	for _, change := range r.rotated {
		if !slices.Contains(*known, change.old) {
			continue
		}
		size := change.index + 1
		text := r.result.Checkpoint
		if size != r.result.Size {
			var err error
			text, err = r.source.Read(ctx, FileCheckpointOf(size))
			if errors.Is(err, fs.ErrNotExist) {
				text = nil
			} else if err != nil {
				return err
			}
		}
		c, err := evidence.OpenCheckpoint(text, change.old, change.new)
		if err != nil || len(c.Keys) != 2 || c.N != size || c.Hash != r.want[size] {
			if report {
				r.result.broken(CodeKeyRotation, change.index,
					"Entry %d names a new key, and the checkpoint that ends with it is not signed by both keys.", change.index)
			}
			continue
		}
		*known = append(*known, change.new)
	}
	return nil
}

// kept compares the log with a checkpoint that was kept.
func (r *run) kept(kept, checkpoint *evidence.Checkpoint, rooted bool) {
	if kept == nil {
		if len(r.options.VKeys) == 0 {
			r.result.Trusted = false
		}
		return
	}
	if kept.Origin != checkpoint.Origin {
		r.result.broken(CodeKept, -1, "The checkpoint that was kept is of another log: %s.", kept.Origin)
		return
	}
	// A snapshot from before a change of the key does not know the new one: so the
	// signature is judged beside what is compared.
	_, err := evidence.OpenCheckpoint(r.options.Kept, slices.Concat(r.trusted, r.own)...)
	if err != nil {
		r.result.broken(CodeKept, -1, "The checkpoint that was kept is not signed by the key of this log, nor by one that it introduced.")
	}
	switch {
	case kept.N > checkpoint.N:
		r.result.broken(CodeWentBack, -1,
			"The log has %s, the checkpoint that was kept has %s: storage went back, as a restored snapshot does, or entries were taken away.",
			entries(checkpoint.N), entries(kept.N))
	case kept.N == checkpoint.N && kept.Hash != checkpoint.Hash:
		r.result.broken(CodeFork, -1,
			"Two checkpoints of %s were signed with different roots: the log has two histories.", entries(kept.N))
	case kept.N > 0 && r.want[kept.N] != kept.Hash:
		cause := "the log was rewritten, or it has two histories"
		if !rooted {
			cause = "entries were altered"
		}
		r.result.broken(CodeFork, -1, "The first %s are not those of the checkpoint that was kept: %s.", entries(kept.N), cause)
	case err == nil:
		r.result.Trusted = true
		r.result.holds(CodeKept, "The log goes on where the checkpoint of %s that was kept ends.", entries(kept.N))
	}
}

// witnesses looks for the cosignatures.
func (r *run) witnesses(cosigned, checkpoint *evidence.Checkpoint, rooted bool) {
	if cosigned == nil {
		return
	}
	if cosigned.Origin != checkpoint.Origin || cosigned.N > checkpoint.N ||
		cosigned.N > 0 && rooted && r.want[cosigned.N] != cosigned.Hash {
		r.result.broken(CodeFork, -1, "The checkpoint that the witnesses signed is not of these entries: the log has two histories.")
		return
	}
	for _, witness := range r.options.Witnesses {
		switch err := evidence.CheckCosignature(cosigned.Note, witness); {
		case errors.Is(err, evidence.ErrKey):
			r.result.broken(CodeWitness, -1, "%q is not the verifier key of a witness.", witness)
		case err != nil:
			r.result.broken(CodeWitness, -1, "The checkpoint of %s is not cosigned by the witness %s.", entries(cosigned.N), name(witness))
		default:
			r.result.holds(CodeWitness, "The witness %s cosigned the first %s.", name(witness), entries(cosigned.N))
		}
	}
}

// name is what comes first in a verifier key.
func name(vkey string) string {
	for i, c := range vkey {
		if c == '+' {
			return vkey[:i]
		}
	}
	return vkey
}

// previous verifies the log before, as far as this one names it.
func (r *run) previous(ctx context.Context, number int64) error {
	if number == 1 {
		return nil
	}
	if r.first == nil || r.first.PreviousLog == nil {
		r.result.broken(CodePrevious, 0, "The first entry does not name the log before.")
		return nil
	}
	before := r.first.PreviousLog
	if r.options.Previous == nil {
		r.result.broken(CodePrevious, 0, "This log goes on after %s of %s, and that one is not here.",
			entries(before.Size), before.Origin)
		return nil
	}
	result, err := Log(ctx, r.options.Previous, Options{VKeys: r.options.VKeys, Now: r.options.Now})
	if err != nil {
		return err
	}
	if result.Origin != before.Origin || result.Size < before.Size ||
		before.RootHash != "" && result.Size == before.Size && result.Root != before.RootHash {
		r.result.broken(CodePrevious, 0, "The log before is not the one that the first entry names: %s of %s.",
			entries(before.Size), before.Origin)
	}
	for _, f := range result.Broken {
		if f.Code != CodeSignature && f.Code != history.CodeLate && f.Code != history.CodeNotDestroyed {
			f.Text = "In the log before: " + f.Text
			r.result.Broken = append(r.result.Broken, f)
		}
	}
	r.result.holds(CodePrevious, "This log goes on after %s of %s.", entries(before.Size), before.Origin)
	return nil
}
