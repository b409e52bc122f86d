// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package evidencelog

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	cosignature "github.com/transparency-dev/formats/note"
	"golang.org/x/mod/sumdb/note"

	"github.com/vault-plugin-dek/vault-plugin-dek/evidence"
)

// maxWitnesses bounds the witnesses of a log, and what one Put of cosignatures holds.
const maxWitnesses = 16

// Errors of witnesses.
var (
	// ErrTooManyWitnesses reports more than 16.
	ErrTooManyWitnesses = fmt.Errorf("a log has at most %d witnesses", maxWitnesses)
	// ErrCosignature reports lines that are no cosignature of a kept checkpoint by a
	// witness of this log.
	ErrCosignature = errors.New("not a cosignature of a kept checkpoint by a witness of this log")
)

// Witnesses returns the verifier keys of the witnesses.
func (l *Log) Witnesses(ctx context.Context) ([]string, error) {
	raw, err := l.storage.Get(ctx, keyWitnesses)
	if err != nil || raw == nil {
		return []string{}, err
	}
	var vkeys []string
	if err := json.Unmarshal(raw, &vkeys); err != nil {
		return nil, fmt.Errorf("decoding %s: %w", keyWitnesses, err)
	}
	return vkeys, nil
}

// SetWitnesses replaces the witnesses. It reports [evidence.ErrKey] for a key that is
// none, and [ErrTooManyWitnesses].
func (l *Log) SetWitnesses(ctx context.Context, vkeys []string) error {
	if len(vkeys) > maxWitnesses {
		return ErrTooManyWitnesses
	}
	for i, vkey := range vkeys {
		if _, err := cosignature.NewVerifierForCosignatureV1(vkey); err != nil || slices.Contains(vkeys[:i], vkey) {
			return evidence.ErrKey
		}
	}
	raw, err := json.Marshal(vkeys)
	if err != nil {
		return fmt.Errorf("encoding %s: %w", keyWitnesses, err)
	}
	return l.storage.Put(ctx, keyWitnesses, raw)
}

// Cosign keeps cosignatures, signature lines of a witness, of the checkpoint of a size.
// With size 0 it looks for the checkpoint among the last 1,024 entries' checkpoints.
func (l *Log) Cosign(ctx context.Context, size int64, lines string) error {
	t, err := l.snapshot(ctx)
	if err != nil {
		return err
	}
	vkeys, err := l.Witnesses(ctx)
	if err != nil {
		return err
	}
	candidates := []int64{size}
	if size == 0 {
		if candidates, err = l.lastSizes(ctx, t); err != nil {
			return err
		}
	}
	l.cosigning.Lock()
	defer l.cosigning.Unlock()
	for _, candidate := range candidates {
		checkpoint, err := l.checkpointAt(ctx, t, candidate)
		if errors.Is(err, ErrNotFound) {
			continue
		} else if err != nil {
			return err
		}
		if found, all, err := cosignatures(checkpoint, lines, vkeys); err == nil && all {
			return l.keep(ctx, t, candidate, checkpoint, found, vkeys)
		}
	}
	return ErrCosignature
}

// lastSizes lists the sizes of the checkpoints of the last two epochs, newest first.
func (l *Log) lastSizes(ctx context.Context, t *tree) ([]int64, error) {
	var all []int64
	last := max(t.size-1, 0) / epochSize
	for epoch := max(last-1, 0); epoch <= last; epoch++ {
		ends, err := l.ends(ctx, t, epoch)
		if err != nil {
			return nil, err
		}
		all = append(all, ends...)
	}
	slices.Reverse(all)
	return all, nil
}

// cosignatures returns the lines that verify, and whether those are all.
func cosignatures(checkpoint []byte, lines string, vkeys []string) (sigs []note.Signature, all bool, err error) {
	text, _, found := strings.Cut(string(checkpoint), "\n\n")
	if !found {
		return nil, false, ErrCosignature
	}
	verifiers := make([]note.Verifier, 0, len(vkeys))
	for _, vkey := range vkeys {
		v, err := cosignature.NewVerifierForCosignatureV1(vkey)
		if err != nil {
			return nil, false, evidence.ErrKey
		}
		verifiers = append(verifiers, v)
	}
	n, err := note.Open([]byte(text+"\n\n"+strings.TrimSuffix(lines, "\n")+"\n"), note.VerifierList(verifiers...))
	if err != nil {
		return nil, false, ErrCosignature
	}
	return n.Sigs, len(n.UnverifiedSigs) == 0, nil
}

// keep adds cosignatures to those of a checkpoint. Once all witnesses signed it, those of
// smaller ones are no longer needed.
func (l *Log) keep(ctx context.Context, t *tree, size int64, checkpoint []byte, sigs []note.Signature, vkeys []string) error {
	lines, err := l.storage.Get(ctx, t.log.cosignatures(size))
	if err != nil {
		return err
	}
	all, _, err := cosignatures(checkpoint, string(lines), vkeys)
	if err != nil {
		all = nil // none of them is of a present witness
	}
	for _, sig := range sigs {
		all = slices.DeleteFunc(all, func(old note.Signature) bool { return old.Hash == sig.Hash && old.Name == sig.Name })
	}
	all = append(all, sigs...)
	var text strings.Builder
	for _, sig := range all {
		fmt.Fprintf(&text, "— %s %s\n", sig.Name, sig.Base64)
	}
	if err := l.storage.Put(ctx, t.log.cosignatures(size), []byte(text.String())); err != nil || len(all) < len(vkeys) {
		return err
	}
	kept, err := l.cosignedSizes(ctx, t)
	if err != nil {
		return err
	}
	for _, older := range kept {
		if older < size {
			if err := l.storage.Delete(ctx, t.log.cosignatures(older)); err != nil {
				return err
			}
		}
	}
	return nil
}

func (l *Log) cosignedSizes(ctx context.Context, t *tree) ([]int64, error) {
	names, err := l.storage.List(ctx, t.log.prefix("cosignatures"))
	if err != nil {
		return nil, err
	}
	all := sizes(names)
	slices.Sort(all)
	return all, nil
}

// Cosigned returns the greatest checkpoint that all witnesses cosigned, with their
// cosignatures; nil if there is none, or no witness.
func (l *Log) Cosigned(ctx context.Context) ([]byte, error) {
	t, err := l.snapshot(ctx)
	if err != nil {
		return nil, err
	}
	vkeys, err := l.Witnesses(ctx)
	if err != nil || len(vkeys) == 0 {
		return nil, err
	}
	kept, err := l.cosignedSizes(ctx, t)
	if err != nil {
		return nil, err
	}
	for _, size := range slices.Backward(kept) {
		checkpoint, err := l.checkpointAt(ctx, t, size)
		if err != nil {
			continue
		}
		lines, err := l.storage.Get(ctx, t.log.cosignatures(size))
		if err != nil {
			return nil, err
		}
		if found, _, err := cosignatures(checkpoint, string(lines), vkeys); err == nil && len(found) == len(vkeys) {
			return append(slices.Clone(checkpoint), lines...), nil
		}
	}
	return nil, nil
}
