// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package evidence

import (
	"errors"

	"github.com/transparency-dev/formats/proof"
	"golang.org/x/mod/sumdb/tlog"
)

// ErrProof reports a proof that does not show the entry in the log.
var ErrProof = errors.New("the proof does not show this entry in the log")

// FormatProof returns a proof of inclusion as a c2sp.org/tlog-proof@v1 text, with the
// signed note that it is for.
func FormatProof(index int64, hashes tlog.RecordProof, checkpoint []byte) string {
	p := proof.TLogProof{Index: uint64(index), Checkpoint: checkpoint} //nolint:gosec // an index is not negative
	for _, h := range hashes {
		p.Hashes = append(p.Hashes, h)
	}
	return string(p.Marshal())
}

// OpenProof verifies that a proof, signed by one of vkeys, shows the bytes of an entry
// in the log, and returns the entry's index and the checkpoint that the proof is for.
func OpenProof(text string, leaf []byte, vkeys ...string) (index int64, c *Checkpoint, err error) {
	var p proof.TLogProof
	if err := p.Unmarshal([]byte(text)); err != nil || p.Index > MaxInteger {
		return 0, nil, ErrProof
	}
	c, err = OpenCheckpoint(p.Checkpoint, vkeys...)
	if err != nil {
		return 0, nil, err
	}
	hashes := make(tlog.RecordProof, len(p.Hashes))
	for i, h := range p.Hashes {
		hashes[i] = h
	}
	index = int64(p.Index)
	if tlog.CheckRecord(hashes, c.N, c.Hash, index, tlog.RecordHash(leaf)) != nil {
		return 0, nil, ErrProof
	}
	return index, c, nil
}
