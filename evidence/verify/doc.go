// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

// Package verify says whether an evidence log is what it was signed as, and whether
// what it says of keys is as it should be. It needs no Vault: it reads the files of
// tlog-tiles, from a directory or from anywhere else.
//
// Trust comes from outside: the verifier key of the log, or a checkpoint that was kept.
// Without either, [Result.Trusted] is false: whoever can write the log could have made
// all of it anew.
//
// Every entry is read. Its hash is held against the tiles, and the root of all against
// the checkpoint, so no tile is trusted. A finding is a sentence.
package verify

import (
	"fmt"
	"slices"

	"github.com/vault-plugin-dek/vault-plugin-dek/evidence/history"
)

// Codes of findings about the log itself. Those about its content are in package
// history.
const (
	CodeCheckpoint  = "checkpoint"   // no checkpoint of a log of this engine
	CodeSignature   = "signature"    // signed by another key
	CodeKeyRotation = "key-rotation" // a change of the key that the old one did not sign
	CodeEntry       = "entry"        // an entry was altered
	CodeSwapped     = "swapped"      // entries stand in each other's place
	CodeDropped     = "dropped"      // an entry was taken out
	CodeMissing     = "missing"      // a file is missing or cut off
	CodeTile        = "tile"         // a tile was altered
	CodeRoot        = "root"         // the entries are not those that were signed
	CodeKept        = "kept"         // the kept checkpoint is none of this log
	CodeWentBack    = "went-back"    // the log is shorter than it was
	CodeFork        = "fork"         // two histories were signed
	CodeWitness     = "witness"      // a cosignature is missing or wrong
	CodePrevious    = "previous-log" // the log before is missing or another one
	CodeTrust       = "trust"        // nothing came from outside
)

// A Finding is one thing that holds, or one that does not.
type Finding struct {
	Code string `json:"code"`
	// Index is the entry that it is about, -1 for none.
	Index    int64  `json:"index"`
	TenantID string `json:"tenant_id,omitempty"`
	Text     string `json:"text"`
}

// Result is what was found.
type Result struct {
	Origin string `json:"origin"`
	Size   int64  `json:"size"`
	// Root is the root hash of the checkpoint, in base64.
	Root string `json:"root_hash"`
	// Trusted says whether a key or a checkpoint from outside vouches for the log.
	Trusted bool      `json:"trusted"`
	Holds   []Finding `json:"holds"`
	Broken  []Finding `json:"broken"`
	// Checkpoint is the signed note.
	Checkpoint []byte `json:"-"`
	// History is what the entries say.
	History *history.History `json:"-"`
}

// OK reports whether everything holds.
func (r *Result) OK() bool { return len(r.Broken) == 0 }

// Has reports whether a finding with the code is among those that do not hold.
func (r *Result) Has(code string) bool {
	return slices.ContainsFunc(r.Broken, func(f Finding) bool { return f.Code == code })
}

// maxFindings bounds the sentences with one code: a log that was made anew has as many
// faults as entries.
const maxFindings = 100

func (r *Result) broken(code string, index int64, format string, args ...any) {
	n := 0
	for _, f := range r.Broken {
		if f.Code == code {
			n++
		}
	}
	if n < maxFindings {
		r.Broken = append(r.Broken, Finding{Code: code, Index: index, Text: fmt.Sprintf(format, args...)})
	}
}

func (r *Result) holds(code, format string, args ...any) {
	r.Holds = append(r.Holds, Finding{Code: code, Index: -1, Text: fmt.Sprintf(format, args...)})
}

func entries(n int64) string {
	if n == 1 {
		return "1 entry"
	}
	return fmt.Sprintf("%d entries", n)
}
