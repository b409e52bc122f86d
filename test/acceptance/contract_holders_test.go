// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

//go:build acceptance

package acceptance

import (
	"net/http"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// The external key of a version goes by itself once every holder has reported.
func TestContractHolders(t *testing.T) {
	s := shared(t)
	mount := withMount(t, s)
	require.Less(t, callRoot(t, s, http.MethodPut, mount+"/config", map[string]any{
		"retired_key_retention": 0, "data_key_lease": 0, "min_deletion_window": 0,
	}).Status, 300)
	tenant := mount + "/tenants/" + uuid.NewString()
	require.Less(t, callRoot(t, s, http.MethodPut, tenant, nil).Status, 300)
	old := encrypt(t, s, tenant, map[string]any{"plaintext": encoded("old")})

	holder := tenant + "/holders/orders"
	refused(t, callRoot(t, s, http.MethodGet, holder, nil), http.StatusNotFound, "holder not found")
	assert.Equal(t, http.StatusNotFound, callRoot(t, s, "LIST", tenant+"/holders", nil).Status, "an empty list")
	named := succeeded(t, callRoot(t, s, http.MethodPut, holder, map[string]any{"description": "a table", "backups_kept": "0s"}))
	assert.Equal(t, []any{"orders", "a table", 0.0, nil}, []any{named["name"], named["description"], named["backups_kept"], named["oldest_version"]})
	assert.Equal(t, []any{"orders"}, succeeded(t, callRoot(t, s, "LIST", tenant+"/holders", nil))["keys"])
	assert.Equal(t, true, succeeded(t, callRoot(t, s, http.MethodPut, tenant+"/dek/config", map[string]any{"follow_holders": true}))["follow_holders"])

	rotateTo(t, s, tenant)
	for _, oldest := range []any{0, 3, nil, "x"} {
		refused(t, callRoot(t, s, http.MethodPut, holder+"/report", map[string]any{"oldest_version": oldest}), http.StatusBadRequest, "oldest_version")
	}
	scan := succeeded(t, callRoot(t, s, http.MethodPut, holder+"/report/start", nil))["scan_started_at"]
	refused(t, callRoot(t, s, http.MethodPut, holder+"/report", map[string]any{
		"oldest_version": 2, "scan_started_at": time.Now().Add(-time.Hour).UTC().Format(time.RFC3339Nano),
	}), http.StatusBadRequest, "scan_started_at")
	reported := succeeded(t, callRoot(t, s, http.MethodPut, holder+"/report", map[string]any{
		"oldest_version": 2, "counts": map[string]any{"2": 0}, "scan_started_at": scan,
	}))
	assert.Equal(t, []any{2.0, scan}, []any{reported["oldest_version"], reported["scan_started_at"]})

	version := func() map[string]any {
		versions, _ := succeeded(t, callRoot(t, s, http.MethodGet, tenant+"/dek", nil))["versions"].([]any)
		first, _ := versions[0].(map[string]any)
		return first
	}
	require.Eventually(t, func() bool { return version()["state"] == "destroyed" }, time.Minute, 100*time.Millisecond)
	assert.Equal(t, false, version()["external_use"])
	assert.NotNil(t, version()["external_key_destroyed_at"])
	refused(t, callRoot(t, s, http.MethodPut, tenant+"/decrypt", map[string]any{"ciphertext": old}), http.StatusBadRequest, "destroyed")
	assert.Equal(t, 2.0, succeeded(t, callRoot(t, s, http.MethodGet, tenant+"/dek/current", nil))["min_decryption_version"])
	assert.Equal(t, http.StatusNoContent, callRoot(t, s, http.MethodDelete, holder, nil).Status)
	refused(t, callRoot(t, s, http.MethodDelete, holder, nil), http.StatusNotFound, "holder not found")
}
