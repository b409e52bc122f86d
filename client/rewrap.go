// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package client

import "context"

// maxRewrapBytes bounds the texts of one request, well below the 32 MiB that
// Vault takes.
const maxRewrapBytes = 8 << 20

// Rewrapped is what became of one text.
type Rewrapped struct {
	Ciphertext string // the text to keep
	Changed    bool   // whether it is another one than before
	Err        error  // why it could not be opened; Ciphertext is then empty
}

// Rewrap brings texts to the current version of the tenant's key, those of older
// versions and, after a rotation was cancelled, of newer ones. Texts that are of
// the current version come back as they are, without being opened.
//
// Envelopes are opened and sealed in the process: Vault is asked for the current
// version, and once for each data key. Ciphertexts of the engine's encrypt go
// through Vault. The results are in the same order; a text that does not open
// keeps no other from being rewrapped.
func (a *AEAD) Rewrap(ctx context.Context, texts []Ciphertext) ([]Rewrapped, error) {
	if a.life.Err() != nil {
		return nil, ErrClosed
	}
	out := make([]Rewrapped, len(texts))
	if len(texts) == 0 {
		return out, nil
	}
	current, err := a.tenant.CurrentVersion(ctx)
	if err != nil {
		return nil, err
	}
	var envelopes, plain []int
	parts := make([]parsed, len(texts))
	for i, text := range texts {
		switch parts[i], out[i].Err = parse(text.Ciphertext); {
		case out[i].Err != nil:
		case parts[i].version == current:
			out[i].Ciphertext = text.Ciphertext
		case parts[i].form == envelopeForm:
			envelopes = append(envelopes, i)
		default:
			plain = append(plain, i)
		}
	}
	if err := a.reseal(ctx, current, texts, parts, envelopes, out); err != nil {
		return nil, err
	}
	return out, a.rewrapInVault(ctx, texts, plain, out)
}

// reseal opens and seals envelopes. It fails only if there is no key to seal with.
func (a *AEAD) reseal(ctx context.Context, current int, texts []Ciphertext, parts []parsed, which []int, out []Rewrapped) error {
	if len(which) == 0 {
		return nil
	}
	if k := a.keys.sealingKey(); k != nil && k.version != current {
		a.keys.retire(k) // of before a rotation
	}
	at := map[string]int{} // where each data key is
	var needed []string
	for _, i := range which {
		if _, known := at[parts[i].key]; !known {
			at[parts[i].key] = len(needed)
			needed = append(needed, parts[i].key)
		}
	}
	keys, errs := a.openedKeys(ctx, needed)
	for _, i := range which {
		n := at[parts[i].key]
		if errs[n] != nil {
			out[i].Err = errs[n]
			continue
		}
		if k := keys[n]; !k.once && k.end.reached(a.keys.now()) { // of a long list
			if keys[n], errs[n] = a.openedKey(ctx, k.text); errs[n] != nil {
				out[i].Err = errs[n]
				continue
			}
		}
		plaintext, err := keys[n].open(parts[i].sealed, texts[i].AssociatedData)
		if err != nil {
			out[i].Err = err
			continue
		}
		sealed, err := a.EncryptContext(ctx, plaintext, texts[i].AssociatedData)
		clear(plaintext)
		if err != nil {
			return err
		}
		out[i].Ciphertext, out[i].Changed = string(sealed), true
	}
	return passing(errs)
}

// passing is the first error that is no judgement on a text: then the texts must
// not be taken for ones that do not open.
func passing(errs []error) error {
	for _, err := range errs {
		if err != nil && !DoesNotOpen(err) {
			return err
		}
	}
	return nil
}

func (a *AEAD) rewrapInVault(ctx context.Context, texts []Ciphertext, which []int, out []Rewrapped) error {
	for len(which) > 0 {
		var batch []Ciphertext
		size := 0
		for _, i := range which {
			size += len(texts[i].Ciphertext) + len(texts[i].AssociatedData)
			if len(batch) == maxKeysOpened || len(batch) > 0 && size > maxRewrapBytes {
				break
			}
			batch = append(batch, texts[i])
		}
		results, err := a.tenant.RewrapBatch(ctx, batch)
		if err != nil {
			return err
		}
		for j, i := range which[:len(batch)] {
			out[i] = Rewrapped{Ciphertext: results[j].Ciphertext, Changed: results[j].Err == nil, Err: results[j].Err}
		}
		which = which[len(batch):]
	}
	return nil
}
