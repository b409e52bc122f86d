// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

//go:build acceptance

package acceptance

import (
	"fmt"
	"net/http"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// batchResults are what a batch answers.
func batchResults(t *testing.T, a answer, status, n int) []map[string]any {
	t.Helper()
	require.Equal(t, status, a.Status, "%.300s", a.Raw)
	list, ok := a.data()["batch_results"].([]any)
	require.True(t, ok, "%.300s", a.Raw)
	require.Len(t, list, n)
	out := make([]map[string]any, n)
	for i := range list {
		out[i], _ = list[i].(map[string]any)
	}
	return out
}

func TestContractBatch(t *testing.T) {
	s := shared(t)
	tenant := tenantPath(newTenant(t, s))
	in := make([]any, 1000)
	for i := range in {
		in[i] = map[string]any{"plaintext": encoded(fmt.Sprint(i)), "reference": fmt.Sprint("r", i), "associated_data": encoded(fmt.Sprint(i % 7))}
	}
	for _, path := range []string{"/encrypt", "/rewrap", "/decrypt"} {
		a := callRoot(t, s, http.MethodPut, tenant+path, map[string]any{"batch_input": in})
		next := make([]any, len(in))
		for i, r := range batchResults(t, a, http.StatusOK, len(in)) {
			assert.Equal(t, fmt.Sprint("r", i), r["reference"])
			if path == "/decrypt" {
				assert.Equal(t, encoded(fmt.Sprint(i)), r["plaintext"])
			}
			next[i] = map[string]any{"ciphertext": r["ciphertext"], "reference": r["reference"], "associated_data": encoded(fmt.Sprint(i % 7))}
		}
		in = next
	}
}

// TestContractBatchWithOneBad: the body over HTTP is Vault's usual one, with the
// results in data, whatever the status.
func TestContractBatchWithOneBad(t *testing.T) {
	s := shared(t)
	tenant := tenantPath(newTenant(t, s))
	in := make([]any, 10_000)
	for i := range in {
		in[i] = map[string]any{"plaintext": "AAAA", "reference": fmt.Sprint(i)}
	}
	in[7777] = map[string]any{"plaintext": "AAA", "reference": "bad"}
	check := func(a answer, status int) {
		t.Helper()
		for i, r := range batchResults(t, a, status, len(in)) {
			assert.Equal(t, i == 7777, r["error"] != nil)
			assert.Equal(t, i != 7777, r["ciphertext"] != nil)
		}
		require.Equal(t, "application/json", a.Header.Get("Content-Type"))
		require.NotEmpty(t, a.Body["request_id"])
	}
	check(callRoot(t, s, http.MethodPut, tenant+"/encrypt", map[string]any{"batch_input": in}), http.StatusBadRequest)
	for _, status := range []int{200, 207, 422} {
		a := callRoot(t, s, http.MethodPut, tenant+"/encrypt", map[string]any{"batch_input": in, "partial_failure_response_code": status})
		check(a, status)
	}
	bad := map[string]any{"batch_input": in[7777:7778], "partial_failure_response_code": 207}
	batchResults(t, callRoot(t, s, http.MethodPut, tenant+"/encrypt", bad), http.StatusBadRequest, 1)
	some := map[string]any{"batch_input": in[7777:7779], "partial_failure_response_code": 5}
	a := callRoot(t, s, http.MethodPut, tenant+"/encrypt", some)
	batchResults(t, a, http.StatusBadRequest, 2)
	assert.Len(t, a.Body["warnings"], 1)
}
