// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

//go:build acceptance

package acceptance

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// TestContractDeletion deletes a tenant and thinks better of it: meanwhile it
// shows that it is going, and nothing else; afterwards it is as it was.
func TestContractDeletion(t *testing.T) {
	s := shared(t)
	id := newTenant(t, s)
	path := tenantPath(id)
	put(t, s, path+"/secrets/a", map[string]any{"data": map[string]any{"v": "1"}})
	ciphertext := encrypt(t, s, path, map[string]any{"plaintext": encoded("hello")})
	waitRotation(t, s, id, rotate(t, s, id), "completed")
	tenant := func() map[string]any { return succeeded(t, callRoot(t, s, http.MethodGet, path, nil)) }
	before := []any{tenant(), readDEK(t, s, id), succeeded(t, callRoot(t, s, http.MethodGet, path+"/secrets/a", nil))}

	for _, window := range []string{"soon", "-1", "721h", "", "0.5"} {
		refused(t, callRoot(t, s, http.MethodDelete, path+"?deletion_window="+window, nil), http.StatusBadRequest, "deletion_window")
	}
	assert.Equal(t, before[0], tenant(), "a refused request changes nothing")

	goes := func(query string, in time.Duration) {
		t.Helper()
		a := callRoot(t, s, http.MethodDelete, path+query, nil)
		require.Less(t, a.Status, 300, a.errors())
		got := tenant()
		assert.Equal(t, "deleting", got["state"])
		assert.WithinDuration(t, time.Now().Add(in), parsedTime(t, got["delete_after"]), time.Minute)
	}
	goes("", 168*time.Hour)
	goes("?deletion_window=24h", 24*time.Hour)
	goes("", 24*time.Hour) // without a window, as it is
	goes("?deletion_window=720h", 720*time.Hour)

	for _, p := range served() {
		below, ofTenant := strings.CutPrefix(p.path, "tenants/{tenant_id}")
		if !ofTenant || below == "" || below == "/restore" || strings.HasPrefix(below, "/evidence") {
			continue
		}
		body := map[string]any{
			"data": map[string]any{}, "items": []any{map[string]any{"kind": "secrets", "name": "a", "data": map[string]any{}}},
			"plaintext": "", "ciphertext": ciphertext, "min_decryption_version": 1,
		}
		if below == "/dek/import" {
			body["ciphertext"] = encoded(text(552)) // of the form of a wrapped key
		}
		for _, at := range examples(p.path, id) {
			a := callRoot(t, s, vaultOperations[p.operation], at, body)
			refused(t, a, http.StatusNotFound, "restore")
		}
	}
	refused(t, callRoot(t, s, http.MethodPut, path, map[string]any{"display_name": "no"}), http.StatusConflict, "being deleted")

	for range 2 { // to repeat it is no error
		a := callRoot(t, s, http.MethodPut, path+"/restore", nil)
		require.Less(t, a.Status, 300, a.errors())
	}
	after := []any{tenant(), readDEK(t, s, id), succeeded(t, callRoot(t, s, http.MethodGet, path+"/secrets/a", nil))}
	assert.Equal(t, before, after, "it comes back whole")
	opened := succeeded(t, callRoot(t, s, http.MethodPut, path+"/decrypt", map[string]any{"ciphertext": ciphertext}))
	assert.Equal(t, encoded("hello"), opened["plaintext"])
}

// TestContractDeletionAtOnce destroys a tenant. Its ID is free again, and nothing
// of the old one opens for the new one.
func TestContractDeletionAtOnce(t *testing.T) {
	s := shared(t)
	path := tenantPath(uuid.NewString())
	require.Less(t, callRoot(t, s, http.MethodPut, path, nil).Status, 300)
	put(t, s, path+"/secrets/a", map[string]any{"data": map[string]any{"v": "1"}})
	ciphertext := encrypt(t, s, path, map[string]any{"plaintext": encoded("hello")})

	a := callRoot(t, s, http.MethodDelete, path+"?deletion_window=0", nil)
	require.Less(t, a.Status, 300, a.errors())
	for _, c := range []struct{ method, below string }{
		{http.MethodGet, ""},
		{http.MethodDelete, ""},
		{http.MethodPut, "/restore"},
		{http.MethodGet, "/secrets/a"},
	} {
		refused(t, callRoot(t, s, c.method, path+c.below, nil), http.StatusNotFound, "tenant not found")
	}

	require.Less(t, callRoot(t, s, http.MethodPut, path, nil).Status, 300)
	assert.Equal(t, counts(0, 0, 0), succeeded(t, callRoot(t, s, http.MethodGet, path, nil))["item_counts"])
	refused(t, callRoot(t, s, http.MethodGet, path+"/secrets/a", nil), http.StatusNotFound, "item not found")
	a = callRoot(t, s, http.MethodPut, path+"/decrypt", map[string]any{"ciphertext": ciphertext})
	refused(t, a, http.StatusBadRequest, "does not open")
}
