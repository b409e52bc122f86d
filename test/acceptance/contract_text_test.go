// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

//go:build acceptance

package acceptance

import (
	"net/http"
	"strings"
	"testing"

	"github.com/google/uuid"
	"github.com/stretchr/testify/assert"
)

// TestContractTextThatIsNotUTF8 sends bytes that are not UTF-8, and half a surrogate
// pair, wherever text comes in. Vault's decoder makes U+FFFD of both, so they would be
// stored changed.
func TestContractTextThatIsNotUTF8(t *testing.T) {
	s := shared(t)
	tenant, provider := newTenant(t, s), "text-"+uuid.NewString()
	face := func(part string) string { return "dek/" + part + "/" + tenant + "/secrets/" }
	put(t, s, tenantPath(tenant, "secrets/there"), map[string]any{"data": map[string]any{"v": "1"}})
	state := func() []any {
		var all []any
		for _, path := range []string{
			tenantPath(tenant), tenantPath(tenant, "secrets/there"), face("metadata") + "there", "dek/config", "dek/key/rotationSettings", "dek/evidence/witnesses",
		} {
			all = append(all, succeeded(t, callRoot(t, s, http.MethodGet, path, nil)))
		}
		for _, path := range []string{"secrets", "holders", "dek/rotations"} {
			all = append(all, callRoot(t, s, "LIST", tenantPath(tenant, path), nil).data())
		}
		return append(all, callRoot(t, s, http.MethodGet, "dek/providers/"+provider, nil).Status)
	}
	before := state()
	for _, c := range []struct{ method, path, body, field string }{
		{http.MethodPut, tenantPath(tenant, "secrets/x"), `{"data": {"pw": "@"}}`, "data"},
		{http.MethodPut, tenantPath(tenant, "secrets/x"), `{"data": {"@": "pw"}}`, "data"},
		{http.MethodPut, tenantPath(tenant, "secrets/x"), `{"data": {"a": [{"b": "@"}]}}`, "data"},
		{http.MethodPut, tenantPath(tenant, "secrets/x"), `{"data": {"v": "1"}, "metadata": {"owner": "@"}}`, "metadata"},
		{http.MethodPut, tenantPath(tenant, "secrets/x"), `{"data": {"v": "1"}, "@": "x"}`, "the name of a field"},
		{http.MethodPatch, tenantPath(tenant, "secrets/there"), `{"data": {"pw": "@"}}`, "data"},
		{http.MethodPut, tenantPath(tenant, "encrypt"), `{"plaintext": "eA==", "associated_data": "@"}`, "associated_data"},
		{http.MethodPut, tenantPath(tenant, "encrypt"), `{"batch_input": [{"plaintext": "eA==", "reference": "@"}]}`, "reference"},
		{http.MethodPut, face("data") + "x", `{"data": {"pw": "@"}}`, "data"},
		{http.MethodPut, face("data") + "x", `{"data": {"@": "pw"}}`, "data"},
		{http.MethodPatch, face("data") + "there", `{"data": {"pw": "@"}}`, "data"},
		{http.MethodPut, face("metadata") + "there", `{"custom_metadata": {"owner": "@"}}`, "custom_metadata"},
		{http.MethodPatch, face("metadata") + "there", `{"custom_metadata": {"@": "billing"}}`, "custom_metadata"},
		{http.MethodPut, tenantPath(tenant, "holders/orders"), `{"description": "@"}`, "description"},
		{http.MethodPut, tenantPath(tenant, "holders/orders/report"), `{"oldest_version": 1, "counts": {"@": 1}}`, "counts"},
		{http.MethodPut, "dek/providers/" + provider, `{"type": "@", "parameters": {}}`, "type"},
		{http.MethodPut, "dek/providers/" + provider, `{"type": "transit", "tenants": ["@"], "parameters": {}}`, "tenants"},
		{http.MethodPut, "dek/providers/" + provider, `{"type": "transit", "parameters": {"address": "@"}}`, "parameters"},
		{http.MethodPut, tenantPath(tenant), `{"display_name": "@"}`, "display_name"},
		{http.MethodPut, tenantPath(tenant, "dek/rotate"), `{"reason": "@"}`, "reason"},
		{http.MethodPut, tenantPath(tenant, "dek/rotate"), `{"idempotency_key": "@"}`, "idempotency_key"},
		{http.MethodPut, tenantPath(tenant, "dek/import"), `{"ciphertext": "@"}`, "ciphertext"},
		{http.MethodPut, "dek/rotations", `{"tenants": ["` + tenant + `"], "reason": "@"}`, "reason"},
		{http.MethodPut, "dek/kek/rotate", `{"reason": "@"}`, "reason"},
		{http.MethodPut, "dek/config", `{"org_id": "@"}`, "org_id"},
		{http.MethodPut, "dek/key/rotationSettings", `{"rotation_interval": "@"}`, "rotation_interval"},
		{http.MethodPut, "dek/evidence/witnesses", `{"witnesses": ["@"]}`, "witnesses"},
		{http.MethodPut, "dek/evidence/check", `{"checkpoint": "@"}`, "checkpoint"},
	} {
		for how, text := range map[string]string{"bytes": "p\xe4ss", "half a pair": `a\ud800b`} {
			a := callRoot(t, s, c.method, c.path, strings.ReplaceAll(c.body, "@", text))
			assert.Equal(t, http.StatusBadRequest, a.Status, "%s: %s %s %s: %s", how, c.method, c.path, c.body, a.errors())
			assert.Contains(t, string(a.Raw), c.field, "%s: %s %s", how, c.method, c.path)
			assert.Contains(t, string(a.Raw), "not UTF-8", "%s: %s %s", how, c.method, c.path)
		}
	}
	// The entries of a bulk write fail each by itself.
	bulk := `{"items": [{"kind": "secrets", "name": "x", "data": {"pw": "p` + "\xe4" + `ss"}}, {"kind": "secrets", "name": "a\ud800b", "data": {"v": "1"}}]}`
	results, _ := succeeded(t, callRoot(t, s, http.MethodPut, tenantPath(tenant, "items"), bulk))["results"].([]any)
	assert.Equal(t, []any{
		map[string]any{"error": "data must not have bytes that are not UTF-8, nor U+FFFD, as which they arrive"},
		map[string]any{"error": "name must be 1 to 256 characters of A-Z a-z 0-9 . _ @ : - with / between parts"},
	}, results)
	// Vault itself cannot hand such a path to a plugin.
	for _, path := range []string{tenantPath(tenant, "secrets/p%E4ss"), face("data") + "p%E4ss"} {
		a := callRoot(t, s, http.MethodPut, path, map[string]any{"data": map[string]any{"v": "1"}})
		assert.GreaterOrEqual(t, a.Status, 400, path)
	}
	assert.Equal(t, before, state(), "nothing was stored")
}
