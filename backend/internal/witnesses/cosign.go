// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package witnesses

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	cosignature "github.com/transparency-dev/formats/note"
	"golang.org/x/mod/sumdb/note"

	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/evidencelog"
	"github.com/vault-plugin-dek/vault-plugin-dek/evidence"
)

// ErrCosignature reports lines that are no cosignature of a kept checkpoint by a witness of
// this log.
var ErrCosignature = errors.New("not a cosignature of a kept checkpoint by a witness of this log")

// Cosign keeps cosignatures, signature lines of a witness, of the checkpoint of a size.
// With size 0 it looks for the checkpoint among those of the last entries, at least 1,024.
func (w *Store) Cosign(ctx context.Context, size int64, lines string) error {
	n, err := w.log.Number(ctx)
	if err != nil {
		return err
	}
	vkeys, err := w.Witnesses(ctx)
	if err != nil {
		return err
	}
	candidates := []int64{size}
	if size == 0 {
		if candidates, err = w.log.Sizes(ctx); err != nil {
			return err
		}
	}
	w.cosigning.Lock()
	defer w.cosigning.Unlock()
	for _, candidate := range candidates {
		checkpoint, err := w.log.Checkpoint(ctx, candidate)
		if errors.Is(err, evidencelog.ErrNotFound) {
			continue
		} else if err != nil {
			return err
		}
		if found, all, err := cosignatures(checkpoint, lines, vkeys); err == nil && all {
			return w.keep(ctx, n, candidate, checkpoint, found, vkeys)
		}
	}
	return ErrCosignature
}

// cosignatures returns the lines that verify, and whether those are all.
func cosignatures(checkpoint []byte, lines string, vkeys []string) (sigs []note.Signature, all bool, err error) {
	text, _, found := strings.Cut(string(checkpoint), "\n\n")
	if !found {
		return nil, false, ErrCosignature
	}
	verifiers := make([]note.Verifier, 0, len(vkeys))
	for _, vkey := range vkeys {
		v, err := cosignature.NewVerifierForCosignatureV1(vkey) // SetWitnesses judged it
		if err != nil {
			return nil, false, fmt.Errorf("%w: %w", evidence.ErrKey, err)
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
func (w *Store) keep(ctx context.Context, n int64, size int64, checkpoint []byte, sigs []note.Signature, vkeys []string) error {
	lines, err := w.storage.Get(ctx, entry(n, size))
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
	if err := w.storage.Put(ctx, entry(n, size), []byte(text.String())); err != nil || len(all) < len(vkeys) {
		return err
	}
	kept, err := w.cosignedSizes(ctx, n)
	if err != nil {
		return err
	}
	for _, older := range kept {
		if older < size {
			if err := w.storage.Delete(ctx, entry(n, older)); err != nil {
				return err
			}
		}
	}
	return nil
}

func (w *Store) cosignedSizes(ctx context.Context, n int64) ([]int64, error) {
	names, err := w.storage.List(ctx, prefix(n))
	if err != nil {
		return nil, err
	}
	var all []int64
	for _, name := range names {
		if size, err := strconv.ParseInt(name, 10, 64); err == nil && prefix(n)+name == entry(n, size) {
			all = append(all, size)
		}
	}
	slices.Sort(all)
	return all, nil
}

// Cosigned returns the greatest checkpoint that all witnesses cosigned, with their
// cosignatures; nil if there is none, or no witness.
func (w *Store) Cosigned(ctx context.Context) ([]byte, error) {
	n, err := w.log.Number(ctx)
	if err != nil {
		return nil, err
	}
	vkeys, err := w.Witnesses(ctx)
	if err != nil || len(vkeys) == 0 {
		return nil, err
	}
	kept, err := w.cosignedSizes(ctx, n)
	if err != nil {
		return nil, err
	}
	for _, size := range slices.Backward(kept) {
		checkpoint, err := w.log.Checkpoint(ctx, size)
		if err != nil {
			continue
		}
		lines, err := w.storage.Get(ctx, entry(n, size))
		if err != nil {
			return nil, err
		}
		if found, _, err := cosignatures(checkpoint, string(lines), vkeys); err == nil && len(found) == len(vkeys) {
			return append(slices.Clone(checkpoint), lines...), nil
		}
	}
	return nil, nil
}
