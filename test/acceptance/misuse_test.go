// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

//go:build acceptance

package acceptance

import (
	"fmt"
	"maps"
	"net/http"
	"strings"
	"testing"

	"github.com/google/uuid"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/vault-plugin-dek/vault-plugin-dek/internal/devstack"
)

// misused sends a request that is to be refused with 400 and a reason, alone and
// as the middle entry of a batch whose others are as they should be.
func misused(t *testing.T, s *devstack.Stack, path string, good, bad map[string]any, words ...string) {
	t.Helper()
	refused(t, callRoot(t, s, http.MethodPut, path, bad), http.StatusBadRequest, words...)
	if strings.Contains(path, "/datakey/") {
		return // which has no batches
	}
	a := callRoot(t, s, http.MethodPut, path, map[string]any{"batch_input": []any{good, bad, good}})
	for i, r := range batchResults(t, a, http.StatusBadRequest, 3) {
		reason, _ := r["error"].(string)
		assert.Equal(t, i == 1, reason != "", "entry %d", i)
		for _, word := range words {
			assert.Equal(t, i == 1, strings.Contains(reason, word), "entry %d: %s", i, reason)
		}
	}
}

// TestContractMisuse: whatever is wrong with associated data, with a version, or
// with a path, for everything that takes it.
func TestContractMisuse(t *testing.T) {
	s := shared(t)
	tenant := destroyAtOnce(t, s)
	sealed := func() map[string]any {
		body := map[string]any{"plaintext": encoded("hello"), "associated_data": encoded("row 7")}
		return map[string]any{"ciphertext": encrypt(t, s, tenant, body), "associated_data": encoded("row 7")}
	}
	destroyed := sealed()
	rotateTo(t, s, tenant)
	below := sealed()
	rotateTo(t, s, tenant)
	good := sealed()
	succeeded(t, callRoot(t, s, http.MethodPut, tenant+"/dek/versions/1/destroy", map[string]any{"force": true}))
	succeeded(t, callRoot(t, s, http.MethodPut, tenant+"/dek/config", map[string]any{"min_decryption_version": 3}))

	bodies := map[string]map[string]any{
		"/encrypt":           {"plaintext": encoded("hello")},
		"/decrypt":           good,
		"/rewrap":            good,
		"/datakey/plaintext": {},
		"/datakey/wrapped":   {"bits": 128},
	}
	for path, body := range bodies {
		for name, ad := range map[string]any{
			"rubbish": "!", "no padding": "cm93IDc",
			"another alphabet": "-_-_", "bits behind the end": "cm93IDd=", "a space": " cm93IDc=", "a number": 7, "a list": []any{"cm93IDc="}, "true": true,
		} {
			t.Run(path+" with associated data that is "+name, func(t *testing.T) {
				bad := maps.Clone(body)
				bad["associated_data"] = ad
				misused(t, s, tenant+path, body, bad, "associated_data")
			})
		}
		t.Run(path+" of a tenant that is not there", func(t *testing.T) {
			refused(t, callRoot(t, s, http.MethodPut, tenantPath(uuid.NewString())+path, body), http.StatusNotFound, "tenant")
			refused(t, callRoot(t, s, http.MethodPut, tenantPath("3FA85F64-5717-4562-B3FC-2C963F66AFA6")+path, body), http.StatusBadRequest, "tenant_id")
		})
	}
	large := map[string]any{"ciphertext": good["ciphertext"], "associated_data": encoded(text(700 << 10))}
	future := map[string]any{"ciphertext": strings.Replace(good["ciphertext"].(string), "v3", "v4", 1), "associated_data": good["associated_data"]}
	for _, path := range []string{"/decrypt", "/rewrap"} {
		misused(t, s, tenant+path, good, destroyed, "version 1", "destroyed")
		misused(t, s, tenant+path, good, below, "version 2", "min_decryption_version")
		misused(t, s, tenant+path, good, future, "version 4", "does not have")
		misused(t, s, tenant+path, good, large, "does not open")
	}
	tooLarge := map[string]any{"plaintext": encoded(text(767<<10 + 1))}
	a := callRoot(t, s, http.MethodPut, tenant+"/encrypt", map[string]any{"batch_input": []any{bodies["/encrypt"], tooLarge}})
	assert.Contains(t, batchResults(t, a, http.StatusBadRequest, 2)[1]["error"], "plaintext must have at most")
	for _, bits := range []any{0, -1, 127, 192, 1 << 31, 128.5, "x", "", []any{256}, map[string]any{}} {
		for _, path := range []string{"/datakey/plaintext", "/datakey/wrapped"} {
			refused(t, callRoot(t, s, http.MethodPut, tenant+path, map[string]any{"bits": bits}), http.StatusBadRequest, "bits")
		}
	}
}

// TestContractBatchWithOneBadCiphertext is TestContractBatchWithOneBad for what
// takes ciphertexts.
func TestContractBatchWithOneBadCiphertext(t *testing.T) {
	s := shared(t)
	tenant := tenantPath(newTenant(t, s))
	in := make([]any, 10_000)
	ciphertext := encrypt(t, s, tenant, map[string]any{"plaintext": encoded("hello")})
	for i := range in {
		in[i] = map[string]any{"ciphertext": ciphertext, "reference": fmt.Sprint(i)}
	}
	in[7777] = map[string]any{"ciphertext": ciphertext[:len(ciphertext)-4], "reference": "bad"}
	for path, field := range map[string]string{"/decrypt": "plaintext", "/rewrap": "ciphertext"} {
		for code, status := range map[any]int{nil: 400, 207: 207} {
			a := callRoot(t, s, http.MethodPut, tenant+path, map[string]any{"batch_input": in, "partial_failure_response_code": code})
			for i, r := range batchResults(t, a, status, len(in)) {
				require.Equal(t, i == 7777, r["error"] != nil)
				require.Equal(t, i != 7777, r[field] != nil)
			}
		}
	}
}
