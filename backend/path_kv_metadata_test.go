// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package backend_test

import (
	"testing"

	"github.com/hashicorp/vault/sdk/logical"
	"github.com/stretchr/testify/require"

	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/enginetest"
)

// What is made by metadata alone is an item, without data, to the face and to its own
// path, until data is written.
func TestKVMetadataWithoutData(t *testing.T) {
	m := enginetest.WithTenant(t)
	require.Equal(t, 204, kvStatus(m, enginetest.Update, kvPath("metadata", "x"), map[string]any{"custom_metadata": map[string]any{"a": "1"}}))
	require.Equal(t, 404, kvStatus(m, enginetest.Read, kvPath("data", "x"), nil))
	require.Equal(t, 404, kvStatus(m, enginetest.Read, kvPath("subkeys", "x"), nil))
	require.Equal(t, 404, kvStatus(m, logical.PatchOperation, kvPath("data", "x"), kvSecret("a")))
	require.Equal(t, 204, kvStatus(m, enginetest.Delete, kvPath("data", "x"), nil), "there is no version to delete")
	known := m.Must(enginetest.Read, kvPath("metadata", "x"), nil)
	require.EqualValues(t, 0, known["current_version"])
	require.EqualValues(t, 0, known["oldest_version"])
	require.Empty(t, known["versions"])
	require.Equal(t, map[string]string{"a": "1"}, known["custom_metadata"])

	item := m.Must(enginetest.Read, enginetest.ItemPath("x"), nil)
	require.Empty(t, item["data"])
	require.EqualValues(t, 0, item["revision"])
	require.Equal(t, map[string]string{"a": "1"}, item["metadata"])
	require.Equal(t, []string{"x"}, m.Must(enginetest.List, enginetest.TenantPath("/secrets"), nil)["keys"])
	require.Equal(t, 1, m.Must(enginetest.Read, enginetest.TenantPath(""), nil)["item_counts"].(map[string]int)["secrets"])
	results := m.Must(enginetest.Update, enginetest.TenantPath("/items/read"), map[string]any{
		"items": []any{map[string]any{"kind": "secrets", "name": "x"}},
	})["results"].([]map[string]any)
	require.NotContains(t, results[0], "error")
	require.Nil(t, results[0]["data"])

	require.EqualValues(t, 0, m.Must(logical.PatchOperation, enginetest.ItemPath("x"), map[string]any{"metadata": map[string]any{"b": "2"}})["revision"])
	m.Must(enginetest.Update, enginetest.TenantPath("/dek/rotate"), nil)
	m.Quiesce()
	require.Equal(t, 2, m.Must(enginetest.Read, enginetest.ItemPath("x"), nil)["key_version"])

	m.Refused(409, "revision 0", enginetest.Update, enginetest.ItemPath("x"), map[string]any{"data": map[string]any{}, "cas": 1})
	written := m.Must(enginetest.Update, kvPath("data", "x"), map[string]any{"data": map[string]any{"v": "1"}, "options": map[string]any{"cas": 0}})
	require.EqualValues(t, 1, written["version"])
	require.Equal(t, map[string]string{"a": "1", "b": "2"}, written["custom_metadata"])
	for _, oldest := range []int{1, 2, 3} { // as KV where max_versions is 1
		require.EqualValues(t, oldest, m.Must(enginetest.Read, kvPath("metadata", "x"), nil)["oldest_version"])
		m.Must(enginetest.Update, kvPath("data", "x"), kvSecret("b"))
	}
}

// The first data may come by a patch at the item's own path, or a write with cas 0.
func TestKVDataFollowsMetadata(t *testing.T) {
	m := enginetest.WithTenant(t)
	for name, write := range map[string]func(path string) map[string]any{
		"patched": func(path string) map[string]any { return m.Must(logical.PatchOperation, path, enginetest.Secret("a")) },
		"written": func(path string) map[string]any {
			return m.Must(enginetest.Update, path, map[string]any{"data": map[string]any{"value": "a"}, "cas": 0})
		},
	} {
		m.Must(enginetest.Update, kvPath("metadata", name), map[string]any{"custom_metadata": map[string]any{}})
		require.EqualValues(t, 1, write(enginetest.ItemPath(name))["revision"], name)
		require.Equal(t, map[string]any{"value": "a"}, m.Must(enginetest.Read, kvPath("data", name), nil)["data"], name)
	}
}

func TestKVMetadataMakeNoVersion(t *testing.T) {
	m := enginetest.WithTenant(t)
	m.Must(enginetest.Update, kvPath("data", "x"), kvSecret("a"))
	before := m.Must(enginetest.Read, enginetest.ItemPath("x"), nil)
	for _, c := range []struct {
		op    logical.Operation
		given any
		want  map[string]string
	}{
		{enginetest.Update, map[string]any{"a": "1", "n": 2, "f": 0.5, "yes": true}, map[string]string{"a": "1", "n": "2", "f": "0.5", "yes": "1"}},
		{logical.PatchOperation, map[string]any{"a": nil, "n": "3"}, map[string]string{"n": "3", "f": "0.5", "yes": "1"}},
		{enginetest.Update, map[string]any{"z": ""}, map[string]string{"z": ""}},
		{logical.PatchOperation, map[string]any{}, map[string]string{"z": ""}},
		{logical.PatchOperation, nil, map[string]string{}},
		{enginetest.Update, map[string]any{"z": "z"}, map[string]string{"z": "z"}},
		{enginetest.Update, nil, map[string]string{}},
	} {
		require.Equal(t, 204, kvStatus(m, c.op, kvPath("metadata", "x"), map[string]any{"custom_metadata": c.given}))
		item := m.Must(enginetest.Read, enginetest.ItemPath("x"), nil)
		require.Equal(t, c.want, item["metadata"])
		for _, field := range []string{"data", "revision", "created_at", "updated_at"} {
			require.Equal(t, before[field], item[field], field)
		}
	}
}
