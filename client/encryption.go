// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package client

import (
	"context"
	"errors"
	"net/http"
)

// MaxBatch is how many texts one request to the engine takes.
const MaxBatch = 10_000

// Plaintext is what [Tenant.EncryptBatch] seals.
type Plaintext struct {
	Plaintext      []byte `json:"plaintext"`
	AssociatedData []byte `json:"associated_data,omitempty"`
}

// Ciphertext is a text of the engine's, with what belongs to it.
type Ciphertext struct {
	Ciphertext     string `json:"ciphertext"`
	AssociatedData []byte `json:"associated_data,omitempty"`
}

// Result is what became of one entry of a batch: what its call answers, or Err.
type Result struct {
	Ciphertext string
	KeyVersion int
	Plaintext  []byte
	Err        error // an [Error] of status 400
}

type batchResult struct {
	Ciphertext string `json:"ciphertext"`
	KeyVersion int    `json:"key_version"`
	Plaintext  []byte `json:"plaintext"`
	Lease      *int   `json:"lease"`
	Error      string `json:"error"`
}

type batchAnswer struct {
	Results []batchResult `json:"batch_results"`
	// Lease is for the whole batch, in seconds; nil from an engine that has none.
	Lease *int `json:"lease"`
}

// EncryptBatch seals up to [MaxBatch] plaintexts in Vault. The results are in the
// same order. [Tenant.AEAD] does it in the process, and much faster.
func (t *Tenant) EncryptBatch(ctx context.Context, texts []Plaintext) ([]Result, error) {
	answer, err := t.batch(ctx, "encrypt", texts, len(texts))
	return results("encrypt", answer, err)
}

// DecryptBatch opens up to [MaxBatch] ciphertexts in Vault.
func (t *Tenant) DecryptBatch(ctx context.Context, texts []Ciphertext) ([]Result, error) {
	answer, err := t.batch(ctx, "decrypt", texts, len(texts))
	return results("decrypt", answer, err)
}

// RewrapBatch brings up to [MaxBatch] ciphertexts to the current version in
// Vault: their plaintexts stay there.
func (t *Tenant) RewrapBatch(ctx context.Context, texts []Ciphertext) ([]Result, error) {
	answer, err := t.batch(ctx, "rewrap", texts, len(texts))
	return results("rewrap", answer, err)
}

// batch sends entries. If all fail the engine answers 400, with the results in
// the body all the same.
func (t *Tenant) batch(ctx context.Context, op string, entries any, n int) (*batchAnswer, error) {
	if n == 0 {
		return new(batchAnswer), nil
	}
	answer := new(batchAnswer)
	err := t.c.do(ctx, call{
		op: op, method: http.MethodPut, path: t.path("/" + op),
		body: map[string]any{"batch_input": entries, "partial_failure_response_code": http.StatusOK},
	}, answer)
	var answered *Error
	if errors.As(err, &answered) && answered.Status == http.StatusBadRequest {
		if answered.Data(answer) == nil && len(answer.Results) == n {
			err = nil
		}
	}
	if err == nil && len(answer.Results) != n {
		err = &Error{Op: op, Status: http.StatusBadGateway, Message: "the answer has another number of results than the request has entries"}
	}
	return answer, err
}

func results(op string, answer *batchAnswer, err error) ([]Result, error) {
	if err != nil {
		return nil, err
	}
	out := make([]Result, len(answer.Results))
	for i, r := range answer.Results {
		out[i] = Result{Ciphertext: r.Ciphertext, KeyVersion: r.KeyVersion, Plaintext: r.Plaintext, Err: r.err(op)}
	}
	return out, nil
}

func (r *batchResult) err(op string) error {
	if r.Error == "" {
		return nil
	}
	return &Error{Op: op, Status: http.StatusBadRequest, Message: r.Error, fromVault: true, entry: true}
}

// DataKeyRequest asks for a data key.
type DataKeyRequest struct {
	Bits           int    `json:"bits,omitempty"` // 128, 256 (default) or 512
	AssociatedData []byte `json:"associated_data,omitempty"`
}

// DataKey is a fresh key. The engine keeps none of it.
type DataKey struct {
	Ciphertext string `json:"ciphertext"` // sealed by the tenant's DEK: decrypt opens it
	KeyVersion int    `json:"key_version"`
	Plaintext  []byte `json:"plaintext"` // the key; nil of a wrapped one
	// LeaseSeconds is how long the key may be used from before the request on,
	// nil from an engine that has no leases.
	LeaseSeconds *int `json:"lease"`
}

// DataKey asks for a data key, in clear and sealed. The caller clears Plaintext.
func (t *Tenant) DataKey(ctx context.Context, r DataKeyRequest) (*DataKey, error) {
	return t.dataKey(ctx, "plaintext", r)
}

// WrappedDataKey asks for a data key that is sealed only.
func (t *Tenant) WrappedDataKey(ctx context.Context, r DataKeyRequest) (*DataKey, error) {
	return t.dataKey(ctx, "wrapped", r)
}

func (t *Tenant) dataKey(ctx context.Context, form string, r DataKeyRequest) (*DataKey, error) {
	key := new(DataKey)
	return orNil(key, t.c.do(ctx, call{
		op: "generate data key", method: http.MethodPut, path: t.path("/datakey/" + form), body: r,
	}, key))
}
