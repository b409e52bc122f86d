// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

//go:build acceptance

package acceptance

import (
	"maps"
	"net/http"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// TestContractSeals: what keys of type aes256-gcm seal is counted, over a killed
// plugin too, and what others seal is not.
func TestContractSeals(t *testing.T) {
	s := shared(t)
	tenant := destroyAtOnce(t, s)
	rotation := succeeded(t, callRoot(t, s, http.MethodPut, tenant+"/dek/rotate", map[string]any{"key_type": "aes256-gcm"}))
	require.Eventually(t, func() bool {
		a := callRoot(t, s, http.MethodGet, tenant+"/dek/rotations/"+rotation["rotation_id"].(string), nil)
		return a.data()["status"] == "completed"
	}, rotationLimit, rotationTick)
	const writes, entries = 3, 2500
	for range writes {
		a := callRoot(t, s, http.MethodPut, tenant+"/secrets/a", map[string]any{"data": map[string]any{"a": "b"}})
		require.Equal(t, http.StatusOK, a.Status)
	}
	batch := make([]any, entries)
	for i := range batch {
		batch[i] = map[string]any{"plaintext": ""}
	}
	batchResults(t, callRoot(t, s, http.MethodPut, tenant+"/encrypt", map[string]any{"batch_input": batch}), http.StatusOK, entries)

	seals := func() (page, external float64) {
		all := versions(t, succeeded(t, callRoot(t, s, http.MethodGet, tenant+"/dek", nil)))
		require.Len(t, all, 2)
		assert.NotContains(t, all[0], "page_seals", "of another type, and destroyed")
		counted := versionFields()
		maps.Copy(counted, fields{
			"version": is(2.0), "key_type": is("aes256-gcm"), "external_use": is(true), "pages": is(1.0), "rotation_id": isRotationID,
			"page_seals": isNumber, "external_seals": isNumber, "seal_limit": is(4294967296.0),
		})
		delete(all[1], "last_external_use") // written behind: a plugin that is killed may lose it
		delete(counted, "last_external_use")
		counted.check(t, all[1])
		return all[1]["page_seals"].(float64), all[1]["external_seals"].(float64)
	}
	page, external := seals()
	assert.Equal(t, []float64{writes, entries}, []float64{page, external})

	require.NoError(t, s.KillPlugin())
	require.Eventually(t, func() bool {
		return callRoot(t, s, http.MethodGet, tenant+"/dek", nil).Status == http.StatusOK
	}, rotationLimit, rotationTick)
	page, external = seals()
	assert.Equal(t, []float64{1024, 1024 + 2048}, []float64{page, external}, "what was reserved counts as made")
	encrypt(t, s, tenant, map[string]any{"plaintext": ""})
	_, external = seals()
	assert.Equal(t, 1024.0+2048+1, external)
}
