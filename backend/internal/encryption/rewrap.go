// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package encryption

import "context"

// Rewrap brings texts of a tenant to the active version, with the same associated
// data, and returns one result for each, in their order. It fails as Open and Seal
// do.
//
// What an envelope holds is sealed anew, under a fresh data key, since it is bound
// to the text of its data key. Of a file the first line changes, and its data key
// stays.
func (e *Engine) Rewrap(ctx context.Context, tenantID string, texts []Ciphertext) ([]Sealed, error) {
	o, err := e.newOpener(ctx, tenantID)
	if err != nil {
		return nil, err
	}
	tasks := make([]task, len(texts))
	defer func() {
		for _, k := range tasks {
			clear(k.plaintext)
		}
	}()
	for i, c := range texts {
		text, plaintext, err := o.open(ctx, c)
		if err != nil && !Refused(err) {
			return nil, err
		}
		tasks[i] = task{form: text.Form, plaintext: plaintext, ad: c.AssociatedData, refusal: err}
		if c.OnlyIfOlder {
			tasks[i].current = &text
		}
		if err == nil {
			e.counters.rewrap.opened.Add(1)
		}
	}
	if err := o.noteTries(ctx); err != nil {
		return nil, err
	}
	sealed, err := e.seal(ctx, tenantID, tasks)
	e.counters.rewrap.addSealed(sealed)
	return sealed, err
}
