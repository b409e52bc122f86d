// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package backend_test

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/enginetest"
)

func TestBulkWrite(t *testing.T) {
	m := enginetest.WithTenant(t)
	m.Must(enginetest.Update, enginetest.ItemPath("there"), enginetest.Secret("v"))
	entry := func(kind, name string, more map[string]any) map[string]any {
		e := map[string]any{"kind": kind, "name": name, "data": map[string]any{"v": name}}
		for k, v := range more {
			e[k] = v
		}
		return e
	}
	results := m.Must(enginetest.Update, enginetest.TenantPath("/items"), map[string]any{"items": []any{
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
		m.Must(enginetest.Read, enginetest.TenantPath(""), nil)["item_counts"])

	many := make([]any, 10_001)
	for name, items := range map[string]any{
		"missing": nil, "empty": []any{}, "an object": map[string]any{"a": 1}, "of numbers": []any{1, 2}, "too many": many,
	} {
		t.Run(name, func(t *testing.T) {
			m.T = t
			m.Refused(400, "items", enginetest.Update, enginetest.TenantPath("/items"), map[string]any{"items": items})
		})
	}
	m.T = t
	m.Refused(404, "tenant", enginetest.Update, "tenants/00000000-0000-4000-8000-000000000000/items",
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
			m := enginetest.WithTenant(t)
			pages := func() int {
				versions, _ := m.Must(enginetest.Read, enginetest.TenantPath("/dek"), nil)["versions"].([]map[string]any)
				n, _ := versions[0]["pages"].(int)
				return n
			}
			m.Must(enginetest.Update, enginetest.TenantPath("/items"), map[string]any{"items": items})
			m.Must(enginetest.Update, enginetest.TenantPath("/items"), map[string]any{"items": items})
			settled := pages()
			require.Positive(t, settled)
			require.Less(t, settled, 20, "a few items need a few splits")
			for range 5 {
				m.Must(enginetest.Update, enginetest.TenantPath("/items"), map[string]any{"items": items})
			}
			require.Equal(t, settled, pages())
		})
	}
}

// The requests that Vault sends again after a crash change nothing more.
func TestRepeatedBulkWriteChangesNothingMore(t *testing.T) {
	enginetest.InFakeTime(t, func(m *enginetest.Mount) {
		entry := func(v string, cas any) map[string]any {
			return map[string]any{"kind": "secrets", "name": "x", "data": map[string]any{"value": v}, "cas": cas}
		}
		body := map[string]any{"items": []any{entry("1", 0), entry("2", 1)}}
		_, err := m.CallAs("request-1", enginetest.Update, enginetest.TenantPath("/items"), body)
		require.NoError(t, err)
		m.Unchanged(func() {
			resp, err := m.CallAs("request-1", enginetest.Update, enginetest.TenantPath("/items"), body)
			require.NoError(t, err)
			for _, r := range resp.Data["results"].([]map[string]any) {
				require.Nil(t, r["error"])
			}
		})
	})
}
