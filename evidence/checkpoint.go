// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package evidence

import (
	"errors"
	"fmt"
	"slices"

	"filippo.io/torchwood"
	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

// Errors of checkpoints and proofs.
var (
	// ErrCheckpoint reports a text that is not a checkpoint of a log of this engine.
	ErrCheckpoint = errors.New("not a checkpoint")
	// ErrNote reports a text that is not even a signed note. It is an [ErrCheckpoint].
	ErrNote = fmt.Errorf("%w: not a signed note", ErrCheckpoint)
	// ErrSignature reports a checkpoint that the expected key did not sign.
	ErrSignature = errors.New("the checkpoint is not signed by the key of its log")
	// ErrForged reports a checkpoint with a signature by the expected key that is wrong:
	// somebody has changed it. It is an [ErrSignature].
	ErrForged = fmt.Errorf("%w: its signature is wrong", ErrSignature)
	// ErrCosignature reports a cosignature that is missing or does not verify.
	ErrCosignature = errors.New("the checkpoint is not cosigned by the witness")
	// ErrKey reports a text that is not a verifier key.
	ErrKey = errors.New("not a verifier key")
)

// A Checkpoint says how many entries a log has, and their root hash.
type Checkpoint struct {
	// Origin is the name of the log.
	Origin string
	tlog.Tree
	// Note is the whole signed note.
	Note []byte
	// Keys are the verifier keys, among those asked for, that signed it.
	Keys []string
}

// KeptCheckpoint returns a checkpoint that a person kept, as it was signed: shells take away
// the line feed that a signed note ends with, and it is put back. Nothing else is mended.
func KeptCheckpoint(text []byte) []byte {
	if len(text) == 0 || text[len(text)-1] == '\n' {
		return text
	}
	return append(slices.Clip(text), '\n')
}

// ParseCheckpoint reads a signed note without verifying its signatures. It reports
// [ErrCheckpoint], and [ErrNote].
func ParseCheckpoint(text []byte) (*Checkpoint, error) {
	n, err := note.Open(text, note.VerifierList())
	var unverified *note.UnverifiedNoteError
	if errors.As(err, &unverified) {
		n, err = unverified.Note, nil
	}
	if err != nil {
		return nil, ErrNote
	}
	c, err := torchwood.ParseCheckpoint(n.Text)
	if err != nil {
		return nil, ErrCheckpoint
	}
	if _, _, err := ParseOrigin(c.Origin); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrCheckpoint, err)
	}
	return &Checkpoint{Origin: c.Origin, Tree: c.Tree, Note: text}, nil
}

// OpenCheckpoint reads a signed note that at least one of vkeys, keys of its own log,
// has signed. Else it fails with [ErrSignature], or with [ErrForged] if a signature by one
// of them is wrong.
func OpenCheckpoint(text []byte, vkeys ...string) (*Checkpoint, error) {
	c, err := ParseCheckpoint(text)
	if err != nil {
		return nil, err
	}
	byHash := map[uint32]string{}
	var verifiers []note.Verifier
	for _, vkey := range vkeys {
		v, err := note.NewVerifier(vkey)
		if err != nil {
			return nil, ErrKey
		}
		if _, twice := byHash[v.KeyHash()]; v.Name() == c.Origin && !twice {
			verifiers = append(verifiers, v)
			byHash[v.KeyHash()] = vkey
		}
	}
	n, err := note.Open(text, note.VerifierList(verifiers...))
	if invalid := (*note.InvalidSignatureError)(nil); errors.As(err, &invalid) {
		return nil, ErrForged
	}
	if err != nil {
		return nil, ErrSignature
	}
	for _, sig := range n.Sigs {
		c.Keys = append(c.Keys, byHash[sig.Hash])
	}
	return c, nil
}

// SignCheckpoint returns the signed note of a tree of a log.
func SignCheckpoint(origin string, tree tlog.Tree, signers ...note.Signer) ([]byte, error) {
	text := torchwood.Checkpoint{Origin: origin, Tree: tree}.String()
	signed, err := note.Sign(&note.Note{Text: text}, signers...)
	if err != nil {
		return nil, fmt.Errorf("signing a checkpoint: %w", err)
	}
	return signed, nil
}
