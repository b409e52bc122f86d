// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

//go:build acceptance

package acceptance

import (
	"fmt"
	"net/http"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// TestContractLargeItem goes up to the most that an item may have.
func TestContractLargeItem(t *testing.T) {
	s := shared(t)
	mount := withMount(t, s)
	a := callRoot(t, s, http.MethodPut, mount+"/config", map[string]any{"max_item_bytes": 393216})
	require.Less(t, a.Status, 300, a.errors())
	tenant := mount + "/tenants/" + devTenant
	succeeded(t, callRoot(t, s, http.MethodPut, tenant, nil))
	write := func(name string, n int) answer {
		return callRoot(t, s, http.MethodPut, tenant+"/secrets/"+name, map[string]any{"data": map[string]any{"v": text(n)}})
	}
	const encoding = 100 // what JSON puts around the text, and the engine around that
	for i := range 3 {
		succeeded(t, write(fmt.Sprint("small-", i), 100))
		succeeded(t, write(fmt.Sprint("large-", i), 393216-encoding))
	}
	refused(t, write("large-0", 393216), http.StatusRequestEntityTooLarge, "393216")
	refused(t, write("new", 500_000), http.StatusRequestEntityTooLarge, "393216")
	refused(t, callRoot(t, s, http.MethodGet, tenant+"/secrets/new", nil), http.StatusNotFound, "item not found")

	started := succeeded(t, callRoot(t, s, http.MethodPut, tenant+"/dek/rotate", nil))
	path := tenant + "/dek/rotations/" + started["rotation_id"].(string)
	require.Eventually(t, func() bool {
		return callRoot(t, s, http.MethodGet, path, nil).data()["status"] == "completed"
	}, rotationLimit, rotationTick)
	for i := range 3 {
		for name, n := range map[string]int{"small": 100, "large": 393216 - encoding} {
			item := succeeded(t, callRoot(t, s, http.MethodGet, fmt.Sprintf("%s/secrets/%s-%d", tenant, name, i), nil))
			assert.Len(t, item["data"].(map[string]any)["v"], n)
			assert.Equal(t, 2.0, item["key_version"])
		}
	}
	succeeded(t, write("large-1", 10))
}

func TestContractItemList(t *testing.T) {
	s := shared(t)
	tenant := newTenant(t, s)
	list := func(kind, query string) answer {
		return callRoot(t, s, "LIST", tenantPath(tenant, kind)+query, nil)
	}
	for _, kind := range itemKinds {
		emptyList(t, list(kind, ""))
		emptyList(t, list(kind, "?limit=3"))
	}
	names := []string{"a", "a/b", "a/b/c", "A", "a.b", "x@y:z", "0", "-", "_", "z"}
	for i := range 400 {
		names = append(names, fmt.Sprintf("n/%03d/%s", i, text(100)))
	}
	var items []map[string]any
	for _, name := range names {
		items = append(items, map[string]any{"kind": "apiKeys", "name": name, "data": map[string]any{"v": text(300)}})
	}
	succeeded(t, callRoot(t, s, http.MethodPut, tenantPath(tenant, "items"), map[string]any{"items": items}))
	slices.Sort(names)
	assert.Equal(t, names, keys(t, list("apiKeys", "")), "whole: sorted, with whole names")
	assert.Equal(t, names, keys(t, list("apiKeys", "/")))
	for _, kind := range []string{"credentials", "secrets"} {
		emptyList(t, list(kind, ""))
	}

	paged := func(limit int, between func()) []string {
		var all []string
		after := ""
		for range len(names) + 1 {
			a := list("apiKeys", fmt.Sprintf("?limit=%d%s", limit, after))
			if a.Status == http.StatusNotFound {
				return all
			}
			page := keys(t, a)
			require.LessOrEqual(t, len(page), limit)
			all = append(all, page...)
			after = "&after=" + page[len(page)-1]
			between()
		}
		require.Fail(t, "the list does not end")
		return nil
	}
	inOrder := paged(1000, func() {})
	assert.ElementsMatch(t, names, inOrder)
	for _, limit := range []int{1, 7, 100, 410} {
		assert.Equal(t, inOrder, paged(limit, func() {}), "pages of %d", limit)
	}
	n := 0
	grown := paged(20, func() { // pages split meanwhile, and the order stays
		for range 20 {
			n++
			put(t, s, tenantPath(tenant, "credentials", fmt.Sprint("c-", n)), map[string]any{"data": map[string]any{"v": text(1000)}})
		}
	})
	assert.Equal(t, inOrder, grown)
	refused(t, list("apiKeys", "?limit=0"), http.StatusBadRequest, "limit")
	refused(t, list("apiKeys", "?after=a//b&limit=2"), http.StatusBadRequest, "after")
}

// TestContractItemDuringRotation: writes use the new key at once, reads go on.
func TestContractItemDuringRotation(t *testing.T) {
	s := shared(t)
	start := func(tenant string) string { return rotate(t, s, tenant) }
	whileRotating(t, s, start, func(tenant, _ string) func() {
		version := readDEK(t, s, tenant)["current_version"]
		path := tenantPath(tenant, "credentials", fmt.Sprint("during-", time.Now().UnixNano()))
		put(t, s, path, map[string]any{"data": map[string]any{"v": 1}})
		item := succeeded(t, callRoot(t, s, http.MethodGet, path, nil))
		for _, name := range []string{"secrets/item-0", "secrets/item-5999"} {
			item := succeeded(t, callRoot(t, s, http.MethodGet, tenantPath(tenant, name), nil))
			assert.Equal(t, map[string]any{"v": text(2000)}, item["data"])
		}
		a := callRoot(t, s, http.MethodDelete, path, nil)
		assert.Equal(t, http.StatusNoContent, a.Status, a.errors())
		return func() { assert.Equal(t, version, item["key_version"]) }
	})
}
