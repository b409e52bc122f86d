// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package encrypt

import (
	"fmt"
	"net/http"
	"strings"
	"unicode/utf8"

	"github.com/hashicorp/vault/sdk/framework"

	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/api"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/keyring"
)

const (
	// maxBatchEntries bounds the entries of a batch.
	maxBatchEntries = 10_000

	// MaxPlaintextBytes is the largest plaintext whose ciphertext can be sent back:
	// Vault refuses strings over 1 MiB. A ciphertext has 4/3 of its plaintext's
	// bytes, and some 80 more.
	MaxPlaintextBytes = 767 << 10
)

// entry is one text to encrypt or to open, and what came of it.
type entry struct {
	fields      map[string]any // as the request has them
	text        string
	ad          []byte
	onlyIfOlder bool // of rewrap

	err    error // a refusal: an entry fails by itself
	result entryResult
}

// entryResult is an entry's part of an answer.
type entryResult struct {
	Ciphertext string  `json:"ciphertext,omitempty"`
	KeyVersion int     `json:"key_version,omitempty"`
	Changed    *bool   `json:"changed,omitempty"`   // of rewrap
	Plaintext  *string `json:"plaintext,omitempty"` // may be empty
	Lease      *int64  `json:"lease,omitempty"`     // in seconds, of a data key that decrypt has opened
	Error      string  `json:"error,omitempty"`
	Reference  string  `json:"reference"`
}

// batch has the entries of one request. A single request is a batch of one entry
// that is answered in another form.
type batch struct {
	entries []entry
	single  bool

	partialCode int      // 0: as if all fail
	warnings    []string // of the answer
}

// parseBatch reads the entries of a request, each of which has its text in the
// given field. It fails only if the request itself is malformed.
func parseBatch(d *framework.FieldData, field string) (*batch, error) {
	b := new(batch)
	if err := b.parsePartialCode(d); err != nil {
		return nil, err
	}
	raw := d.Raw["batch_input"]
	if raw == nil {
		b.single = true
		b.entries = []entry{parseEntry(d.Raw, field)}
		return b, nil
	}
	list, ok := raw.([]any)
	if !ok || len(list) == 0 || len(list) > maxBatchEntries {
		return nil, api.Invalid("batch_input must be a list of 1 to %d objects", maxBatchEntries)
	}
	b.entries = make([]entry, len(list))
	for i, one := range list {
		fields, ok := one.(map[string]any)
		if !ok {
			return nil, api.Invalid("batch_input must be a list of objects; element %d is none", i)
		}
		b.entries[i] = parseBatchEntry(fields, field)
	}
	return b, nil
}

// parsePartialCode reads partial_failure_response_code. As transit does, it
// passes over one that is no status, with a warning; and over those whose answers
// have no body (RFC 9110), since the results would be lost.
func (b *batch) parsePartialCode(d *framework.FieldData) error {
	code, named, err := api.IntField(d, "partial_failure_response_code")
	switch {
	case err != nil:
		return err
	case !named:
		return nil
	case code < http.StatusOK || code > 599:
		b.warnings = append(b.warnings, "partial_failure_response_code must be from 200 to 599: it was ignored")
		return nil
	case code == http.StatusNoContent || code == http.StatusResetContent || code == http.StatusNotModified:
		b.warnings = append(b.warnings, fmt.Sprintf("partial_failure_response_code %d is for answers without a body: it was ignored", code))
		return nil
	}
	b.partialCode = code
	return nil
}

// parseBatchEntry is parseEntry for an element of batch_input.
func parseBatchEntry(fields map[string]any, field string) entry {
	e := parseEntry(fields, field)
	switch reference := fields["reference"].(type) {
	case nil:
	case string:
		if strings.ContainsRune(reference, utf8.RuneError) {
			e.err = api.Invalid("reference must not have bytes that are not UTF-8")
			return e
		}
		e.result.Reference = reference
	default:
		e.err = api.Invalid("reference must be a string")
	}
	return e
}

func parseEntry(fields map[string]any, field string) entry {
	e := entry{fields: fields}
	text, ok := fields[field].(string)
	switch {
	case fields[field] == nil:
		e.err = api.Invalid("%s is missing", field)
	case !ok:
		e.err = api.Invalid("%s must be a string", field)
	default:
		e.text = text
		e.ad, e.err = associatedData(fields)
	}
	return e
}

// parseOnlyIfOlder reads only_if_older, which rewrap takes. That of the request holds
// for the entries of a batch that do not say.
func (b *batch) parseOnlyIfOlder(d *framework.FieldData) error {
	const field = "only_if_older"
	all, _, err := api.BoolField(d, field)
	if err != nil {
		return err
	}
	for _, e := range b.pending() {
		e.onlyIfOlder = all
		if raw := e.fields[field]; raw != nil {
			e.onlyIfOlder, e.err = api.ParseBool(field, raw)
		}
	}
	return nil
}

func associatedData(fields map[string]any) ([]byte, error) {
	raw := fields["associated_data"]
	if raw == nil {
		return nil, nil
	}
	text, ok := raw.(string)
	if !ok {
		return nil, api.Invalid("associated_data must be a string of base64")
	}
	ad, err := keyring.DecodeBase64Lines(text)
	if err != nil {
		return nil, api.Invalid("associated_data is %s", err)
	}
	return ad, nil
}

func decodePlaintext(text string) ([]byte, error) {
	plaintext, err := keyring.DecodeBase64Lines(text)
	if err != nil {
		return nil, api.Invalid("plaintext is %s", err)
	}
	if len(plaintext) > MaxPlaintextBytes {
		return nil, api.Refuse(http.StatusRequestEntityTooLarge,
			"plaintext must have at most %d bytes, not %d: for more, encrypt with a key of datakey",
			MaxPlaintextBytes, len(plaintext))
	}
	return plaintext, nil
}
