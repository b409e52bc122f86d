// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package witnesses

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"golang.org/x/mod/sumdb/note"

	"github.com/vault-plugin-dek/vault-plugin-dek/evidence"
)

// MaxWitnesses bounds the witnesses of a log, and what one Put of cosignatures holds.
const MaxWitnesses = 16

// maxShown is how many bytes a name has that an error gives.
const maxShown = 80

// Errors of SetWitnesses.
var (
	// ErrTooManyWitnesses reports more than 16.
	ErrTooManyWitnesses = fmt.Errorf("a log has at most %d witnesses", MaxWitnesses)
	// ErrWitness reports a list with an element that cannot be a witness of this log.
	ErrWitness = errors.New("witnesses must have verifier keys of cosignatures, each once")
	// ErrOwnKey reports a key of the log itself.
	ErrOwnKey = errors.New("is a key of this log, which cannot be its own witness")
	// ErrTwice reports a witness that an earlier element names, too.
	ErrTwice = errors.New("stands twice")
)

// Witnesses returns the verifier keys of the witnesses.
func (w *Store) Witnesses(ctx context.Context) ([]string, error) {
	raw, err := w.storage.Get(ctx, witnessesKey)
	if err != nil || raw == nil {
		return []string{}, err
	}
	var vkeys []string
	if err := json.Unmarshal(raw, &vkeys); err != nil {
		return nil, fmt.Errorf("decoding %s: %w", witnessesKey, err)
	}
	return vkeys, nil
}

// SetWitnesses replaces the witnesses. It reports [ErrTooManyWitnesses], and [ErrWitness]
// with the first element at fault: as [evidence.ErrKey], [evidence.ErrKeyHash], [ErrOwnKey]
// or [ErrTwice].
func (w *Store) SetWitnesses(ctx context.Context, vkeys []string) error {
	if len(vkeys) > MaxWitnesses {
		return ErrTooManyWitnesses
	}
	if err := w.judge(ctx, vkeys); err != nil {
		return err
	}
	raw, err := json.Marshal(vkeys)
	if err != nil {
		return fmt.Errorf("encoding %s: %w", witnessesKey, err)
	}
	return w.storage.Put(ctx, witnessesKey, raw)
}

// judge reports the first element that cannot be a witness.
func (w *Store) judge(ctx context.Context, vkeys []string) error {
	if len(vkeys) == 0 {
		return nil // a caller can take all witnesses away while the log is not open
	}
	key, err := w.log.Key(ctx)
	if err != nil {
		return err
	}
	own := append(key.Previous, key.VKey)
	var before []note.Verifier
	for i, vkey := range vkeys {
		v, err := evidence.CosignatureVerifier(vkey)
		switch {
		case slices.ContainsFunc(own, func(o string) bool { return bytes.Equal(publicKey(o), publicKey(vkey)) }):
			err = ErrOwnKey
		case errors.Is(err, evidence.ErrKeyHash):
			err = &fault{"has a wrong key hash: its eight hex digits are not those of its name and key", err}
		case err != nil:
			err = &fault{"is malformed: it is not a verifier key of a witness", err}
		case slices.ContainsFunc(before, func(b note.Verifier) bool { return b.Name() == v.Name() && b.KeyHash() == v.KeyHash() }):
			err = ErrTwice
		}
		if err != nil {
			return fmt.Errorf("%w: element %d%s %w", ErrWitness, i+1, shown(vkey), err)
		}
		before = append(before, v)
	}
	return nil
}

// fault says of an element what is wrong with it.
type fault struct {
	text  string
	cause error
}

func (f *fault) Error() string { return f.text }

func (f *fault) Unwrap() error { return f.cause }

// publicKey returns the key of a verifier key, nil if there is none. It leaves out the name,
// the hash and the byte that tells the algorithm, so that a key of the log is recognized
// where it was made one of cosignatures.
func publicKey(vkey string) []byte {
	parts := strings.SplitN(vkey, "+", 3)
	key, err := base64.StdEncoding.DecodeString(parts[len(parts)-1])
	if err != nil || len(parts) < 3 || len(key) < 2 {
		return nil
	}
	return key[1:]
}

// shown returns the name in a verifier key, as an error gives it. Somebody may have taken a
// signing key for it, so nothing else is repeated, nor a name where the key hash is none.
func shown(vkey string) string {
	parts := strings.SplitN(vkey, "+", 3)
	if len(parts) < 3 || len(parts[0]) > maxShown {
		return ""
	}
	if hash, err := hex.DecodeString(parts[1]); err != nil || len(hash) != 4 {
		return ""
	}
	return fmt.Sprintf(" (%s)", parts[0])
}
