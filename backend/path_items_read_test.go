// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package backend_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/enginetest"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/storagetest"
)

// readMany reads items, as they are after JSON has carried them.
func readMany(m *enginetest.Mount, items ...map[string]any) []map[string]any {
	m.T.Helper()
	var list []any
	for _, i := range items {
		list = append(list, i)
	}
	encoded, err := json.Marshal(m.Must(enginetest.Update, enginetest.TenantPath("/items/read"), map[string]any{"items": list})["results"])
	require.NoError(m.T, err)
	var results []map[string]any
	require.NoError(m.T, json.Unmarshal(encoded, &results))
	require.Len(m.T, results, len(items))
	return results
}

func wanted(kind, name string) map[string]any { return map[string]any{"kind": kind, "name": name} }

func TestReadManyItems(t *testing.T) {
	m := enginetest.WithTenant(t)
	require.Equal(t, "item not found", readMany(m, wanted("secrets", "a"))[0]["error"], "of a tenant without pages")
	m.Must(enginetest.Update, enginetest.ItemPath("a"), map[string]any{"data": map[string]any{"v": 1.5, "<&>": nil}, "metadata": map[string]any{"k": "é"}})
	m.Must(enginetest.Update, enginetest.ItemPath("a"), map[string]any{"data": map[string]any{"v": 2.5, "<&>": []any{"é"}}, "metadata": map[string]any{"k": "é"}})
	m.Must(enginetest.Update, enginetest.TenantPath("/credentials/a"), enginetest.Secret("other kind"))
	results := readMany(m,
		wanted("secrets", "missing"), wanted("secrets", "a"), wanted("credentials", "a"), wanted("apiKeys", "a"), wanted("secrets", "a"),
		wanted("none", "a"), wanted("secrets", "../a"), wanted("secrets", ""), map[string]any{}, map[string]any{"kind": 1, "name": []any{}},
		wanted("secrets", strings.Repeat("x", 257)),
	)
	for i, path := range map[int]string{1: "secrets/a", 2: "credentials/a", 4: "secrets/a"} {
		encoded, err := json.Marshal(m.Must(enginetest.Read, enginetest.TenantPath("/"+path), nil))
		require.NoError(t, err)
		var want map[string]any
		require.NoError(t, json.Unmarshal(encoded, &want))
		require.Equal(t, want, results[i], "as a read of the item")
	}
	for i, text := range map[int]string{
		0: "item not found", 3: "item not found", 5: "kind must", 6: "name must", 7: "name must", 8: "kind must", 9: "kind must", 10: "name must",
	} {
		require.Len(t, results[i], 1, "an error alone")
		require.Contains(t, results[i]["error"], text, i)
	}
}

func TestReadManyItemsRefused(t *testing.T) {
	m := enginetest.WithTenant(t)
	one := []any{wanted("secrets", "a")}
	many := make([]any, 10_001)
	for i := range many {
		many[i] = wanted("secrets", "a")
	}
	for _, items := range []any{nil, []any{}, "a", 1, map[string]any{}, []any{"a"}, []any{nil}, many} {
		m.Refused(400, "items must be a list", enginetest.Update, enginetest.TenantPath("/items/read"), map[string]any{"items": items})
	}
	m.Refused(400, "tenant_id", enginetest.Update, "tenants/X/items/read", map[string]any{"items": one})
	m.Refused(404, "tenant not found", enginetest.Update, "tenants/"+enginetest.OtherTenant+"/items/read", map[string]any{"items": one})
	m.Refused(404, "tenant not found", enginetest.Update, "tenants/"+enginetest.OtherTenant+"/items/read", map[string]any{"items": []any{map[string]any{}}})
	require.Len(t, m.Must(enginetest.Update, enginetest.TenantPath("/items/read"), map[string]any{"items": many[1:]})["results"], 10_000)
}

// A page is opened once for all items on it, in whatever order they are asked for.
func TestReadManyOpensAPageOnce(t *testing.T) {
	m := enginetest.WithTenant(t)
	const items = 400
	writeMany(m, items, 500)
	pages := len(m.PageKeys())
	require.Greater(t, pages, 4)
	m.Close()
	m = enginetest.OpenMount(t, m.Disk, 0, storagetest.None)
	defer m.Close()
	var all []map[string]any
	for i := range items {
		all = append(all, wanted("secrets", fmt.Sprintf("item/%d", (i*7)%items)))
	}
	reads := map[string]int{}
	var mu sync.Mutex // several pages are read at once
	m.Storage.Hook(func(op, key string) {
		mu.Lock()
		defer mu.Unlock()
		if op == "get" && strings.HasPrefix(key, "pages/") {
			reads[key]++
		}
	})
	results := readMany(m, all...)
	m.Storage.Hook(nil)
	for i, r := range results {
		require.Equal(t, fmt.Sprint((i*7)%items), r["data"].(map[string]any)["n"])
	}
	require.LessOrEqual(t, len(reads), 2*pages, "pages and deltas")
	for key, n := range reads {
		require.Equal(t, 1, n, key)
	}
}

// writeMany writes items whose data name their number, of some size.
func writeMany(m *enginetest.Mount, items, size int) {
	m.T.Helper()
	var list []any
	for i := range items {
		list = append(list, map[string]any{
			"kind": "secrets", "name": fmt.Sprintf("item/%d", i), "data": map[string]any{"n": fmt.Sprint(i), "fill": enginetest.Filler("x", size)},
		})
	}
	m.Must(enginetest.Update, enginetest.TenantPath("/items"), map[string]any{"items": list})
}

// An answer has at most 16 MiB of items; what has no room can be asked for again.
func TestReadManyBoundsTheAnswer(t *testing.T) {
	m := enginetest.WithTenant(t)
	defer m.Close()
	const items, size = 100, 250_000
	for i := 0; i < items; i += 50 {
		var list []any
		for n := range 50 {
			list = append(list, map[string]any{
				"kind": "secrets", "name": fmt.Sprintf("large/%d", i+n), "data": map[string]any{"fill": enginetest.Filler("x", size)},
			})
		}
		m.Must(enginetest.Update, enginetest.TenantPath("/items"), map[string]any{"items": list})
	}
	m.Must(enginetest.Update, enginetest.ItemPath("small"), enginetest.Secret("small"))
	var all []map[string]any
	for i := range items {
		all = append(all, wanted("secrets", fmt.Sprintf("large/%d", i)))
	}
	all = append(all, wanted("secrets", "small"))
	size0 := 0
	var left []int
	var again []map[string]any
	for i, r := range readMany(m, all...) {
		if r["error"] != nil {
			require.Contains(t, r["error"], "another request")
			left = append(left, i)
			again = append(again, all[i])
			continue
		}
		encoded, err := json.Marshal(r)
		require.NoError(t, err)
		size0 += len(encoded)
	}
	require.LessOrEqual(t, size0, 16<<20+items*200)
	require.Greater(t, size0, 15<<20, "as many as there is room for")
	require.NotEmpty(t, left)
	var request []any
	for _, i := range all {
		request = append(request, i)
	}
	answer := m.Must(enginetest.Update, enginetest.TenantPath("/items/read"), map[string]any{"items": append([]any{map[string]any{}}, request...)})
	require.Len(t, answer["left_out"], len(left))
	for _, i := range answer["left_out"].([]int) {
		require.Contains(t, answer["results"].([]map[string]any)[i]["error"], "another request")
	}
	require.NotContains(t, m.Must(enginetest.Update, enginetest.TenantPath("/items/read"), map[string]any{"items": request[:1]}), "left_out")
	for _, r := range readMany(m, again...) {
		require.NotContains(t, r, "error")
	}
}

// A page that does not open, or whose key was destroyed by force, keeps no item on
// another page from being read.
func TestReadManyPastDamage(t *testing.T) {
	m := enginetest.WithTenant(t)
	const items = 100
	writeMany(m, items, 2000)
	m.Close()
	page := m.PageKeys()[0]
	damaged := append([]byte(nil), m.Disk.Value(page)...)
	damaged[len(damaged)-1] ^= 1
	m.Disk.Set(page, damaged)
	again := enginetest.OpenMount(t, m.Disk, 0, storagetest.None)
	defer again.Close()
	var all []map[string]any
	for i := range items {
		all = append(all, wanted("secrets", fmt.Sprintf("item/%d", i)))
	}
	readable := 0
	for _, r := range readMany(again, all...) {
		if r["error"] == nil {
			readable++
			continue
		}
		require.Contains(t, r["error"], "the engine's log tells")
	}
	require.NotZero(t, readable)
	require.Less(t, readable, items)
}
