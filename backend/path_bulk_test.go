// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package backend

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestBulkWrite(t *testing.T) {
	m := withTenant(t)
	m.must(update, itemPath("there"), secret("v"))
	entry := func(kind, name string, more map[string]any) map[string]any {
		e := map[string]any{"kind": kind, "name": name, "data": map[string]any{"v": name}}
		for k, v := range more {
			e[k] = v
		}
		return e
	}
	results := m.must(update, tenantPath("/items"), map[string]any{"items": []any{
		entry("credentials", "a", nil),
		entry("apiKeys", "a", map[string]any{"metadata": map[string]any{"m": "1"}}),
		entry("secrets", "there", map[string]any{"cas": 0}),
		entry("tokens", "a", nil),
		entry("secrets", "../a", nil),
		entry("secrets", "no-data", map[string]any{"data": nil}),
		entry("secrets", "twice", nil),
		entry("secrets", "twice", nil),
		entry("secrets", "large", map[string]any{"data": map[string]any{"v": strings.Repeat("x", 300_000)}}),
	}})["results"].([]map[string]any)
	for i, want := range []any{1, 1, "revision 1", "kind", "name", "data", 1, 2, "max_item_bytes"} {
		if n, ok := want.(int); ok {
			require.EqualValues(t, n, results[i]["revision"], "%d: %v", i, results[i])
		} else {
			require.Contains(t, results[i]["error"], want, "%d", i)
		}
	}
	require.Equal(t, map[string]int{"credentials": 1, "api_keys": 1, "secrets": 2},
		m.must(read, tenantPath(""), nil)["item_counts"])

	many := make([]any, 10_001)
	for name, items := range map[string]any{
		"missing": nil, "empty": []any{}, "an object": map[string]any{"a": 1}, "of numbers": []any{1, 2}, "too many": many,
	} {
		t.Run(name, func(t *testing.T) {
			m.t = t
			m.refused(400, "items", update, tenantPath("/items"), map[string]any{"items": items})
		})
	}
	m.t = t
	m.refused(404, "tenant", update, "tenants/00000000-0000-4000-8000-000000000000/items",
		map[string]any{"items": []any{entry("secrets", "a", nil)}})
}

// A page of one item cannot become smaller by splitting, however large the item
// is and however often it is written: each split would leave an empty page.
func TestWritingAgainSplitsNoMore(t *testing.T) {
	entry := func(name string, bytes int) map[string]any {
		return map[string]any{"kind": "secrets", "name": name, "data": map[string]any{"v": strings.Repeat("x", bytes)}}
	}
	const large = 150_000
	for name, items := range map[string][]any{
		"one large item, twice":  {entry("a", large), entry("a", large)},
		"large items":            {entry("a", large), entry("b", large), entry("c", large), entry("a", large)},
		"large ones among small": {entry("a", large), entry("s", 10), entry("t", 10), entry("b", large), entry("b", large), entry("u", 10)},
	} {
		t.Run(name, func(t *testing.T) {
			m := withTenant(t)
			pages := func() int {
				versions, _ := m.must(read, tenantPath("/dek"), nil)["versions"].([]map[string]any)
				n, _ := versions[0]["pages"].(int)
				return n
			}
			m.must(update, tenantPath("/items"), map[string]any{"items": items})
			m.must(update, tenantPath("/items"), map[string]any{"items": items})
			settled := pages()
			require.Positive(t, settled)
			require.Less(t, settled, 20, "a few items need a few splits")
			for range 5 {
				m.must(update, tenantPath("/items"), map[string]any{"items": items})
			}
			require.Equal(t, settled, pages())
		})
	}
}
