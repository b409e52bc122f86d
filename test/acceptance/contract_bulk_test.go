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

// results requires 200 and returns the results in order.
func results(t *testing.T, a answer) []map[string]any {
	t.Helper()
	list, ok := succeeded(t, a)["results"].([]any)
	require.True(t, ok, "results is no list")
	all := make([]map[string]any, len(list))
	for i, r := range list {
		all[i], ok = r.(map[string]any)
		require.True(t, ok, "result %d is no object", i)
		require.Len(t, all[i], 1, "result %d is a revision or an error", i)
	}
	return all
}

func TestContractBulk(t *testing.T) {
	s := shared(t)
	tenant := newTenant(t, s)
	put(t, s, tenantPath(tenant, "secrets/there"), map[string]any{"data": map[string]any{"v": "kept"}})
	got := results(t, callRoot(t, s, http.MethodPut, tenantPath(tenant, "items"), `{"items": [
		{"kind": "credentials", "name": "a", "data": {"v": 1}, "metadata": {"m": "1"}},
		{"kind": "apiKeys", "name": "a", "data": {}},
		{"kind": "secrets", "name": "there", "data": {"v": "lost"}, "cas": 0},
		{"kind": "secrets", "name": "there", "data": {"v": "lost"}, "cas": 2},
		{"kind": "secrets", "name": "bad//name", "data": {}},
		{"kind": "secrets", "name": "", "data": {}},
		{"kind": "secrets", "data": {}},
		{"kind": "passwords", "name": "a", "data": {}},
		{"name": "a", "data": {}},
		{"kind": "secrets", "name": "no-data"},
		{"kind": "secrets", "name": "no-object", "data": []},
		{"kind": "secrets", "name": "metadata", "data": {}, "metadata": {"a": 1}},
		{"kind": "secrets", "name": "number", "data": {"n": 9007199254740993}},
		{"kind": "secrets", "name": "cas", "data": {}, "cas": "x"},
		{},
		{"kind": "credentials", "name": "a", "data": {"v": 2}, "cas": 1},
		{"kind": "credentials", "name": "a", "data": {"v": 3}},
		{"kind": "secrets", "name": "last", "data": {"v": 1}, "unknown": true}
	]}`))
	want := []any{1.0, 1.0, "cas", "cas", "name", "name", "name", "kind", "kind", "data", "data", "metadata", "2^53", "cas", "kind", 2.0, 3.0, 1.0}
	require.Len(t, got, len(want))
	for i, w := range want {
		if word, isError := w.(string); isError {
			assert.Contains(t, got[i]["error"], word, "result %d", i)
		} else {
			assert.Equal(t, w, got[i]["revision"], "result %d: %v", i, got[i]["error"])
		}
	}
	item := succeeded(t, callRoot(t, s, http.MethodGet, tenantPath(tenant, "credentials/a"), nil))
	assert.Equal(t, []any{map[string]any{"v": 3.0}, map[string]any{}}, []any{item["data"], item["metadata"]})
	item = succeeded(t, callRoot(t, s, http.MethodGet, tenantPath(tenant, "secrets/there"), nil))
	assert.Equal(t, map[string]any{"v": "kept"}, item["data"])
	assert.Equal(t, counts(1, 1, 2), succeeded(t, callRoot(t, s, http.MethodGet, tenantPath(tenant), nil))["item_counts"])

	t.Run("too large", func(t *testing.T) {
		got := results(t, callRoot(t, s, http.MethodPut, tenantPath(tenant, "items"), map[string]any{"items": []any{
			map[string]any{"kind": "secrets", "name": "large", "data": map[string]any{"v": text(262144)}},
			map[string]any{"kind": "secrets", "name": "small", "data": map[string]any{}},
		}}))
		assert.Contains(t, got[0]["error"], "262144")
		assert.Equal(t, 1.0, got[1]["revision"])
	})
	t.Run("all refused", func(t *testing.T) {
		got := results(t, callRoot(t, s, http.MethodPut, tenantPath(tenant, "items"), map[string]any{"items": []any{map[string]any{}}}))
		assert.NotEmpty(t, got[0]["error"])
	})
}

func TestContractBulkMalformed(t *testing.T) {
	s := shared(t)
	path := tenantPath(newTenant(t, s))
	before := succeeded(t, callRoot(t, s, http.MethodGet, path, nil))
	for _, body := range []string{
		`{}`, `{"items": null}`, `{"items": "x"}`, `{"items": {}}`, `{"items": 1}`, `{"items": ["x"]}`, `{"items": [null]}`,
		`{"items": [{"kind": "secrets", "name": "a", "data": {}}, 1]}`,
	} {
		refused(t, callRoot(t, s, http.MethodPut, path+"/items", body), http.StatusBadRequest, "items")
	}
	assert.Equal(t, before, succeeded(t, callRoot(t, s, http.MethodGet, path, nil)))
}

// TestContractBulkMost writes as many items as a request may have, and one more.
func TestContractBulkMost(t *testing.T) {
	s := shared(t)
	tenant := newTenant(t, s)
	items := make([]map[string]any, 10_000)
	for i := range items {
		items[i] = map[string]any{"kind": itemKinds[i%3], "name": fmt.Sprintf("item/%d", i), "data": map[string]any{"n": i}}
	}
	write := func(items []map[string]any) answer {
		return callRoot(t, s, http.MethodPut, tenantPath(tenant, "items"), map[string]any{"items": items})
	}
	for i, r := range results(t, write(items)) {
		require.Equal(t, 1.0, r["revision"], "item %d", i)
	}
	held := counts(3334, 3333, 3333)
	assert.Equal(t, held, succeeded(t, callRoot(t, s, http.MethodGet, tenantPath(tenant), nil))["item_counts"])

	more := map[string]any{"kind": "secrets", "name": "one-more", "data": map[string]any{}}
	a := write(append(items, more))
	assert.GreaterOrEqual(t, a.Status, 400, "Vault refuses it, before the plugin sees it")
	assert.Equal(t, held, succeeded(t, callRoot(t, s, http.MethodGet, tenantPath(tenant), nil))["item_counts"])

	waitRotation(t, s, tenant, rotate(t, s, tenant), "completed")
	for i, n := range []int{0, 4999, 9999} {
		item := succeeded(t, callRoot(t, s, http.MethodGet, tenantPath(tenant, itemKinds[n%3], fmt.Sprintf("item/%d", n)), nil))
		assert.Equal(t, map[string]any{"n": float64(n)}, item["data"], i)
	}
	for kind, n := range map[string]int{"credentials": 3334, "apiKeys": 3333, "secrets": 3333} {
		assert.Len(t, keys(t, callRoot(t, s, "LIST", tenantPath(tenant, kind), nil)), n)
	}
}
