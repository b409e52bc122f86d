// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package backend_test

import (
	"net/http"
	"strings"
	"testing"

	"github.com/hashicorp/vault/sdk/logical"
	"github.com/stretchr/testify/require"

	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/enginetest"
)

func TestItemWriteIsRefused(t *testing.T) {
	m := enginetest.WithTenant(t)
	m.Must(enginetest.Update, enginetest.ItemPath("there"), enginetest.Secret("v"))
	ok := map[string]any{"v": 1}
	for name, c := range map[string]struct {
		path   string
		data   map[string]any
		status int
		says   string
	}{
		"no data":             {enginetest.ItemPath("x"), nil, 400, "data"},
		"data null":           {enginetest.ItemPath("x"), map[string]any{"data": nil}, 400, "data"},
		"data a list":         {enginetest.ItemPath("x"), map[string]any{"data": []any{1}}, 400, "data"},
		"data a string":       {enginetest.ItemPath("x"), map[string]any{"data": "v"}, 400, "data"},
		"a number too large":  {enginetest.ItemPath("x"), map[string]any{"data": map[string]any{"n": 1 << 53}}, 400, "2^53"},
		"one deep below":      {enginetest.ItemPath("x"), map[string]any{"data": map[string]any{"a": []any{map[string]any{"n": -9.1e15}}}}, 400, "2^53"},
		"metadata a list":     {enginetest.ItemPath("x"), map[string]any{"data": ok, "metadata": []any{}}, 400, "metadata"},
		"metadata a number":   {enginetest.ItemPath("x"), map[string]any{"data": ok, "metadata": map[string]any{"a": 1}}, 400, "metadata"},
		"cas negative":        {enginetest.ItemPath("x"), map[string]any{"data": ok, "cas": -1}, 400, "cas"},
		"cas not whole":       {enginetest.ItemPath("x"), map[string]any{"data": ok, "cas": 1.5}, 400, "cas"},
		"cas a word":          {enginetest.ItemPath("x"), map[string]any{"data": ok, "cas": "new"}, 400, "cas"},
		"cas of a new item":   {enginetest.ItemPath("x"), map[string]any{"data": ok, "cas": 1}, 409, "no such item"},
		"cas 0, but there":    {enginetest.ItemPath("there"), map[string]any{"data": ok, "cas": 0}, 409, "revision 1"},
		"cas another":         {enginetest.ItemPath("there"), map[string]any{"data": ok, "cas": 2}, 409, "revision 1"},
		"name with dots":      {enginetest.ItemPath("../x"), map[string]any{"data": ok}, 400, "name"},
		"name of a dot":       {enginetest.ItemPath("a/./b"), map[string]any{"data": ok}, 400, "name"},
		"name with a gap":     {enginetest.ItemPath("a//b"), map[string]any{"data": ok}, 400, "name"},
		"name with a slash":   {enginetest.ItemPath("a/"), map[string]any{"data": ok}, 400, "name"},
		"name in unicode":     {enginetest.ItemPath("schlüssel"), map[string]any{"data": ok}, 400, "name"},
		"name with a space":   {enginetest.ItemPath("a b"), map[string]any{"data": ok}, 400, "name"},
		"name with a newline": {enginetest.ItemPath("a\nb"), map[string]any{"data": ok}, 400, "name"},
		"name too long":       {enginetest.ItemPath(strings.Repeat("n", 257)), map[string]any{"data": ok}, 400, "256"},
		"tenant in capitals":  {"tenants/3FA85F64-5717-4562-B3FC-2C963F66AFA6/secrets/x", map[string]any{"data": ok}, 400, "lower case"},
		"tenant no UUID":      {"tenants/acme/secrets/x", map[string]any{"data": ok}, 400, "UUID"},
		"tenant unknown":      {"tenants/00000000-0000-4000-8000-000000000000/secrets/x", map[string]any{"data": ok}, 404, "tenant"},
		"item too large":      {enginetest.ItemPath("x"), map[string]any{"data": map[string]any{"v": strings.Repeat("x", 262144)}}, 413, "max_item_bytes"},
	} {
		t.Run(name, func(t *testing.T) {
			m.T = t
			m.Refused(c.status, c.says, enginetest.Update, c.path, c.data)
		})
	}
}

// A value of the wrong type may be a secret in the wrong place.
func TestWrongTypeIsNotRepeated(t *testing.T) {
	m := enginetest.WithTenant(t)
	for path, field := range map[string]string{enginetest.ItemPath("x"): "cas", enginetest.TenantPath("/dek/rotate"): "reason", "config": "org_id"} {
		for _, value := range []any{[]any{"hush"}, map[string]any{"a": "hush"}} {
			resp, err := m.Call(enginetest.Update, path, map[string]any{"data": map[string]any{}, field: value})
			require.Equal(t, 400, enginetest.Code(resp, err))
			require.ErrorContains(t, err, field)
			require.NotContains(t, err.Error(), "hush")
		}
	}
}

func TestItemRoundTrip(t *testing.T) {
	m := enginetest.WithTenant(t)
	path := enginetest.ItemPath("db/main")
	require.EqualValues(t, 1, m.Must(enginetest.Update, path, map[string]any{
		"data":     map[string]any{"user": "u", "nested": map[string]any{"list": []any{1, "two", nil, true}}, "n": 9007199254740991},
		"metadata": map[string]any{"owner": "billing"},
	})["revision"])
	first := m.Must(enginetest.Read, path, nil)
	require.Equal(t, map[string]any{"user": "u", "nested": map[string]any{"list": []any{1.0, "two", nil, true}}, "n": 9007199254740991.0}, first["data"])
	require.Equal(t, map[string]string{"owner": "billing"}, first["metadata"])
	require.Equal(t, 1, first["key_version"])

	require.EqualValues(t, 2, m.Must(enginetest.Update, path, map[string]any{"data": map[string]any{"user": "w"}, "cas": 1})["revision"])
	second := m.Must(enginetest.Read, path, nil)
	require.Equal(t, map[string]any{"user": "w"}, second["data"], "a write replaces data")
	require.Empty(t, second["metadata"], "and metadata")
	require.Equal(t, first["created_at"], second["created_at"])

	m.Refused(409, "revision 2", enginetest.Delete, path, map[string]any{"cas": "1"})
	m.Must(enginetest.Delete, path, map[string]any{"cas": "2"})
	m.Refused(404, "item not found", enginetest.Read, path, nil)
	m.Refused(404, "item not found", enginetest.Delete, path, nil)
	require.EqualValues(t, 1, m.Must(enginetest.Update, path, enginetest.Secret("again"))["revision"], "a new item starts at 1")
}

func TestItemPatch(t *testing.T) {
	m := enginetest.WithTenant(t)
	path := enginetest.ItemPath("p")
	m.Refused(404, "item not found", logical.PatchOperation, path, enginetest.Secret("v"))
	m.Must(enginetest.Update, path, map[string]any{
		"data":     map[string]any{"a": "1", "b": map[string]any{"c": "2", "d": "3"}},
		"metadata": map[string]any{"x": "1", "y": "2"},
	})
	m.Must(logical.PatchOperation, path, map[string]any{
		"data":     map[string]any{"a": nil, "b": map[string]any{"c": "4"}, "e": "5"},
		"metadata": map[string]any{"x": nil, "z": "3"},
		"cas":      1,
	})
	got := m.Must(enginetest.Read, path, nil)
	require.Equal(t, map[string]any{"b": map[string]any{"c": "4", "d": "3"}, "e": "5"}, got["data"])
	require.Equal(t, map[string]string{"y": "2", "z": "3"}, got["metadata"])
	require.EqualValues(t, 2, got["revision"])

	for says, data := range map[string]map[string]any{
		"data or metadata":    {"cas": 2},
		"data must be":        {"data": nil},
		"metadata must be an": {"metadata": map[string]any{"x": 1}},
		"2^53":                {"data": map[string]any{"n": 1e300}},
	} {
		m.Refused(400, says, logical.PatchOperation, path, data)
	}
	m.Refused(409, "revision 2", logical.PatchOperation, path, map[string]any{"data": map[string]any{}, "cas": 1})
}

func TestRepeatedWriteIsRecognized(t *testing.T) {
	m := enginetest.WithTenant(t)
	for range 2 {
		resp, err := m.CallAs("request-1", enginetest.Update, enginetest.ItemPath("x"), map[string]any{"data": map[string]any{"v": 1}, "cas": 0})
		require.NoError(t, err)
		require.EqualValues(t, 1, resp.Data["revision"])
	}
	m.Must(logical.PatchOperation, enginetest.ItemPath("x"), enginetest.Secret("y"))
	require.EqualValues(t, 2, m.Must(enginetest.Read, enginetest.ItemPath("x"), nil)["revision"])
}

func TestListItems(t *testing.T) {
	m := enginetest.WithTenant(t)
	require.Nil(t, m.Must(enginetest.List, enginetest.TenantPath("/secrets/"), nil)["keys"], "an empty list, Vault's 404")
	for _, name := range []string{"b", "a/x", "a", "c:1@d_.-"} {
		m.Must(enginetest.Update, enginetest.ItemPath(name), enginetest.Secret("v"))
	}
	require.Equal(t, []string{"a", "a/x", "b", "c:1@d_.-"}, m.Must(enginetest.List, enginetest.TenantPath("/secrets/"), nil)["keys"])
	require.Nil(t, m.Must(enginetest.List, enginetest.TenantPath("/apiKeys/"), nil)["keys"], "another kind")
	for says, data := range map[string]map[string]any{
		"limit": {"limit": 0}, "limit must": {"limit": -1}, "limit must be a whole number": {"limit": "x"}, "after": {"after": "../x"},
	} {
		m.Refused(400, says, enginetest.List, enginetest.TenantPath("/secrets/"), data)
	}
	m.Refused(404, "tenant", enginetest.List, "tenants/00000000-0000-4000-8000-000000000000/secrets/", nil)
}

func TestMaxItemBytes(t *testing.T) {
	m := enginetest.WithTenant(t)
	m.Must(enginetest.Update, "config", map[string]any{"max_item_bytes": 400})
	m.Refused(http.StatusRequestEntityTooLarge, "400", enginetest.Update, enginetest.ItemPath("x"), enginetest.Secret(strings.Repeat("x", 400)))
	m.Must(enginetest.Update, enginetest.ItemPath("x"), enginetest.Secret(strings.Repeat("x", 200)))
	m.Must(enginetest.Update, "config", map[string]any{"max_item_bytes": 393216})
	m.Must(enginetest.Update, enginetest.ItemPath("x"), enginetest.Secret(strings.Repeat("x", 393_000)))
	m.Must(enginetest.Update, enginetest.ItemPath("y"), enginetest.Secret(strings.Repeat("y", 393_000)))
	require.Len(t, m.Must(enginetest.List, enginetest.TenantPath("/secrets/"), nil)["keys"], 2)
}

// The vault command sends data=… as a string. What was sent is not repeated.
func TestMistypedFieldIsRefusedWithoutItsValue(t *testing.T) {
	m := enginetest.WithTenant(t)
	for path, data := range map[string]map[string]any{
		enginetest.ItemPath("x"): {"data": `{"password":"hunter2"}`}, enginetest.TenantPath("/encrypt"): {"batch_input": "hunter2"},
	} {
		_, err := m.Call(enginetest.Update, path, data)
		require.ErrorContains(t, err, " must be ")
		require.NotContains(t, err.Error(), "hunter2")
	}
	m.Refused(400, "data must be an object; the vault command", enginetest.Update, enginetest.ItemPath("x"), map[string]any{"data": "a"})
}

func TestPatchKeepsNullsInsideLists(t *testing.T) {
	m := enginetest.WithTenant(t)
	m.Must(enginetest.Update, enginetest.ItemPath("x"), map[string]any{"data": map[string]any{"keep": "1"}, "metadata": map[string]any{"m": "1"}})
	m.Must("patch", enginetest.ItemPath("x"), map[string]any{
		"data":     map[string]any{"list": []any{map[string]any{"b": nil, "c": 1}}, "keep": map[string]any{"gone": nil, "n": 1}},
		"metadata": nil,
	})
	got := m.Must(enginetest.Read, enginetest.ItemPath("x"), nil)
	require.Equal(t, map[string]any{
		"list": []any{map[string]any{"b": nil, "c": 1.0}},
		"keep": map[string]any{"n": 1.0},
	}, got["data"])
	require.Empty(t, got["metadata"])
}
