// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package encrypt

import (
	"encoding/base64"
	"net/http"
	"strings"

	"github.com/hashicorp/vault/sdk/logical"

	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/encryption"
)

// pending are the entries that have not failed. What the engine answers to their
// texts is in the same order.
func (b *batch) pending() (entries []*entry) {
	for i := range b.entries {
		if e := &b.entries[i]; e.err == nil {
			entries = append(entries, e)
		}
	}
	return entries
}

// plaintexts are the texts to seal. An entry whose plaintext breaks a rule fails.
func (b *batch) plaintexts() (texts []encryption.Plaintext) {
	for _, e := range b.pending() {
		var plaintext []byte
		if plaintext, e.err = decodePlaintext(e.text); e.err == nil {
			texts = append(texts, encryption.Plaintext{Plaintext: plaintext, AssociatedData: e.ad})
		}
	}
	return texts
}

// ciphertexts are the texts to open. One that was read from a file ends in a line
// break.
func (b *batch) ciphertexts() (texts []encryption.Ciphertext) {
	for _, e := range b.pending() {
		texts = append(texts, encryption.Ciphertext{
			Text: strings.Trim(e.text, " \t\r\n"), AssociatedData: e.ad, OnlyIfOlder: e.onlyIfOlder,
		})
	}
	return texts
}

func (b *batch) setSealed(sealed []encryption.Sealed) {
	for i, e := range b.pending() {
		s := sealed[i]
		e.err, e.result.Ciphertext, e.result.KeyVersion = s.Err, s.Text, s.Version
	}
}

// setRewrapped is setSealed, and says what has changed.
func (b *batch) setRewrapped(sealed []encryption.Sealed) {
	for i, e := range b.pending() {
		if changed := sealed[i].Changed; sealed[i].Err == nil {
			e.result.Changed = &changed
		}
	}
	b.setSealed(sealed)
}

func (b *batch) setOpened(opened []encryption.Opened) {
	for i, e := range b.pending() {
		plaintext := base64.StdEncoding.EncodeToString(opened[i].Plaintext)
		e.err, e.result.Plaintext = opened[i].Err, &plaintext
		if lease := opened[i].Lease; lease != nil {
			seconds := int64(lease.Seconds())
			e.result.Lease = &seconds
		}
	}
}

// failed returns the number of entries that have failed.
func (b *batch) failed() (n int) {
	for i := range b.entries {
		if b.entries[i].err != nil {
			n++
		}
	}
	return n
}

// Answer makes the answer of what came of the entries.
func (b *batch) answer(req *logical.Request) (*logical.Response, error) {
	if b.single {
		return b.answerSingle()
	}
	results := make([]entryResult, len(b.entries))
	for i := range b.entries {
		e := &b.entries[i]
		results[i] = e.result
		if e.err != nil {
			results[i] = entryResult{Error: e.err.Error(), Reference: e.result.Reference}
		}
	}
	resp := &logical.Response{Data: map[string]any{"batch_results": results}, Warnings: b.warnings}
	failed := b.failed()
	if failed == 0 {
		return resp, nil
	}
	status := http.StatusBadRequest
	if b.partialCode != 0 && failed < len(b.entries) {
		status = b.partialCode
	}
	// A body of its own: Vault would drop batch_results from a refusal.
	return logical.RespondWithStatusCode(resp, req, status)
}

func (b *batch) answerSingle() (*logical.Response, error) {
	e := &b.entries[0]
	if e.err != nil {
		return nil, e.err
	}
	data := map[string]any{}
	if e.result.Plaintext != nil {
		data["plaintext"] = *e.result.Plaintext
		if e.result.Lease != nil {
			data["lease"] = *e.result.Lease
		}
	} else {
		data["ciphertext"], data["key_version"] = e.result.Ciphertext, e.result.KeyVersion
	}
	if e.result.Changed != nil {
		data["changed"] = *e.result.Changed
	}
	return &logical.Response{Data: data, Warnings: b.warnings}, nil
}
