// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package evidence

import (
	"fmt"
	"strconv"
	"strings"

	cosignature "github.com/transparency-dev/formats/note"
	"golang.org/x/mod/sumdb/note"
)

// ErrKeyHash reports a verifier key whose key hash is not that of its name and key. It is
// an [ErrKey].
var ErrKeyHash = fmt.Errorf("%w: its key hash is not that of its name and key", ErrKey)

// CosignatureVerifier returns the verifier of a witness's verifier key (tlog-cosignature),
// or of one of plain signed notes, as which many witnesses publish theirs. It reports
// [ErrKey] for a text that is none, and [ErrKeyHash].
func CosignatureVerifier(vkey string) (note.Verifier, error) {
	v, err := cosignature.NewVerifierForCosignatureV1(vkey)
	if err != nil {
		return nil, ErrKey
	}
	// The library does not read the hash that is in the text. That of a key of plain signed
	// notes is another than its cosignatures have.
	if _, err := note.NewVerifier(vkey); err == nil {
		return v, nil
	}
	_, rest, _ := strings.Cut(vkey, "+")
	digits, _, _ := strings.Cut(rest, "+")
	hash, err := strconv.ParseUint(digits, 16, 32)
	switch {
	case err != nil:
		return nil, ErrKey
	case uint32(hash) != v.KeyHash(): // #nosec G115 -- it was parsed as 32 bits
		return nil, ErrKeyHash
	}
	return v, nil
}

// CheckCosignature returns nil if the witness with a verifier key of cosignatures
// (tlog-cosignature) signed the note, else [ErrCosignature] or [ErrKey].
func CheckCosignature(text []byte, witness string) error {
	v, err := CosignatureVerifier(witness)
	if err != nil {
		return err
	}
	if _, err := note.Open(text, note.VerifierList(v)); err != nil {
		return ErrCosignature
	}
	return nil
}
