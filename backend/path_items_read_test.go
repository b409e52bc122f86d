// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package backend

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/storagetest"
)

// readMany reads items, as they are after JSON has carried them.
func (m *mount) readMany(items ...map[string]any) []map[string]any {
	m.t.Helper()
	var list []any
	for _, i := range items {
		list = append(list, i)
	}
	encoded, err := json.Marshal(m.must(update, tenantPath("/items/read"), map[string]any{"items": list})["results"])
	require.NoError(m.t, err)
	var results []map[string]any
	require.NoError(m.t, json.Unmarshal(encoded, &results))
	require.Len(m.t, results, len(items))
	return results
}

func wanted(kind, name string) map[string]any { return map[string]any{"kind": kind, "name": name} }

func TestReadManyItems(t *testing.T) {
	m := withTenant(t)
	require.Equal(t, "item not found", m.readMany(wanted("secrets", "a"))[0]["error"], "of a tenant without pages")
	m.must(update, itemPath("a"), map[string]any{"data": map[string]any{"v": 1.5, "<&>": nil}, "metadata": map[string]any{"k": "é"}})
	m.must(update, itemPath("a"), map[string]any{"data": map[string]any{"v": 2.5, "<&>": []any{"é"}}, "metadata": map[string]any{"k": "é"}})
	m.must(update, tenantPath("/credentials/a"), secret("other kind"))
	results := m.readMany(
		wanted("secrets", "missing"), wanted("secrets", "a"), wanted("credentials", "a"), wanted("apiKeys", "a"), wanted("secrets", "a"),
		wanted("none", "a"), wanted("secrets", "../a"), wanted("secrets", ""), map[string]any{}, map[string]any{"kind": 1, "name": []any{}},
		wanted("secrets", strings.Repeat("x", 257)),
	)
	for i, path := range map[int]string{1: "secrets/a", 2: "credentials/a", 4: "secrets/a"} {
		encoded, err := json.Marshal(m.must(read, tenantPath("/"+path), nil))
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
	m := withTenant(t)
	one := []any{wanted("secrets", "a")}
	many := make([]any, 10_001)
	for i := range many {
		many[i] = wanted("secrets", "a")
	}
	for _, items := range []any{nil, []any{}, "a", 1, map[string]any{}, []any{"a"}, []any{nil}, many} {
		m.refused(400, "items must be a list", update, tenantPath("/items/read"), map[string]any{"items": items})
	}
	m.refused(400, "tenant_id", update, "tenants/X/items/read", map[string]any{"items": one})
	m.refused(404, "tenant not found", update, "tenants/"+otherTenant+"/items/read", map[string]any{"items": one})
	m.refused(404, "tenant not found", update, "tenants/"+otherTenant+"/items/read", map[string]any{"items": []any{map[string]any{}}})
	require.Len(t, m.must(update, tenantPath("/items/read"), map[string]any{"items": many[1:]})["results"], 10_000)
}

// A page is opened once for all items on it, in whatever order they are asked for.
func TestReadManyOpensAPageOnce(t *testing.T) {
	m := withTenant(t)
	const items = 400
	writeMany(m, items, 500)
	pages := len(m.pageKeys())
	require.Greater(t, pages, 4)
	m.close()
	m = openMount(t, m.disk, 0, storagetest.None)
	defer m.close()
	var all []map[string]any
	for i := range items {
		all = append(all, wanted("secrets", fmt.Sprintf("item/%d", (i*7)%items)))
	}
	reads := map[string]int{}
	m.storage.Hook(func(op, key string) {
		if op == "get" && strings.HasPrefix(key, "pages/") {
			reads[key]++
		}
	})
	results := m.readMany(all...)
	m.storage.Hook(nil)
	for i, r := range results {
		require.Equal(t, fmt.Sprint((i*7)%items), r["data"].(map[string]any)["n"])
	}
	require.LessOrEqual(t, len(reads), 2*pages, "pages and deltas")
	for key, n := range reads {
		require.Equal(t, 1, n, key)
	}
}

// writeMany writes items whose data name their number, of some size.
func writeMany(m *mount, items, size int) {
	m.t.Helper()
	var list []any
	for i := range items {
		list = append(list, map[string]any{
			"kind": "secrets", "name": fmt.Sprintf("item/%d", i), "data": map[string]any{"n": fmt.Sprint(i), "fill": filler("x", size)},
		})
	}
	m.must(update, tenantPath("/items"), map[string]any{"items": list})
}

// An answer has at most 16 MiB of items; what has no room can be asked for again.
func TestReadManyBoundsTheAnswer(t *testing.T) {
	m := withTenant(t)
	defer m.close()
	const items, size = 100, 250_000
	for i := 0; i < items; i += 50 {
		var list []any
		for n := range 50 {
			list = append(list, map[string]any{
				"kind": "secrets", "name": fmt.Sprintf("large/%d", i+n), "data": map[string]any{"fill": filler("x", size)},
			})
		}
		m.must(update, tenantPath("/items"), map[string]any{"items": list})
	}
	m.must(update, itemPath("small"), secret("small"))
	var all []map[string]any
	for i := range items {
		all = append(all, wanted("secrets", fmt.Sprintf("large/%d", i)))
	}
	all = append(all, wanted("secrets", "small"))
	size0 := 0
	var left []int
	var again []map[string]any
	for i, r := range m.readMany(all...) {
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
	answer := m.must(update, tenantPath("/items/read"), map[string]any{"items": append([]any{map[string]any{}}, request...)})
	require.Len(t, answer["left_out"], len(left))
	for _, i := range answer["left_out"].([]int) {
		require.Contains(t, answer["results"].([]map[string]any)[i]["error"], "another request")
	}
	require.NotContains(t, m.must(update, tenantPath("/items/read"), map[string]any{"items": request[:1]}), "left_out")
	for _, r := range m.readMany(again...) {
		require.NotContains(t, r, "error")
	}
}

// A page that does not open, or whose key was destroyed by force, keeps no item on
// another page from being read.
func TestReadManyPastDamage(t *testing.T) {
	m := withTenant(t)
	const items = 100
	writeMany(m, items, 2000)
	m.close()
	page := m.pageKeys()[0]
	damaged := append([]byte(nil), m.disk.Value(page)...)
	damaged[len(damaged)-1] ^= 1
	m.disk.Set(page, damaged)
	again := openMount(t, m.disk, 0, storagetest.None)
	defer again.close()
	var all []map[string]any
	for i := range items {
		all = append(all, wanted("secrets", fmt.Sprintf("item/%d", i)))
	}
	readable := 0
	for _, r := range again.readMany(all...) {
		if r["error"] == nil {
			readable++
			continue
		}
		require.Contains(t, r["error"], "the engine's log tells")
	}
	require.NotZero(t, readable)
	require.Less(t, readable, items)
}
