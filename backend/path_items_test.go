// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package backend

import (
	"net/http"
	"strings"
	"testing"

	"github.com/hashicorp/vault/sdk/logical"
	"github.com/stretchr/testify/require"
)

// refused makes a request that has to be refused: with that status, a message
// that names what is wrong, and nothing on disk changed.
func (m *mount) refused(status int, message string, op logical.Operation, path string, data map[string]any) {
	m.t.Helper()
	before := m.disk.Clone()
	resp, err := m.call(op, path, data)
	require.Equal(m.t, status, code(resp, err), "%s %s: %v %v", op, path, resp, err)
	text := ""
	if err != nil {
		text = err.Error()
	} else if resp != nil && resp.IsError() {
		text = resp.Error().Error()
	}
	require.Contains(m.t, text, message)
	require.Equal(m.t, before, m.disk.Clone(), "a refused request changed something")
}

// withTenant is a mount with a tenant.
func withTenant(t *testing.T) *mount {
	t.Helper()
	m := newMount(t)
	t.Cleanup(m.close)
	m.must(logical.UpdateOperation, tenantPath(""), nil)
	return m
}

const (
	read   = logical.ReadOperation
	update = logical.UpdateOperation
	list   = logical.ListOperation
	del    = logical.DeleteOperation
)

func TestItemWriteIsRefused(t *testing.T) {
	m := withTenant(t)
	m.must(update, itemPath("there"), secret("v"))
	ok := map[string]any{"v": 1}
	for name, c := range map[string]struct {
		path   string
		data   map[string]any
		status int
		says   string
	}{
		"no data":             {itemPath("x"), nil, 400, "data"},
		"data null":           {itemPath("x"), map[string]any{"data": nil}, 400, "data"},
		"data a list":         {itemPath("x"), map[string]any{"data": []any{1}}, 400, "data"},
		"data a string":       {itemPath("x"), map[string]any{"data": "v"}, 400, "data"},
		"a number too large":  {itemPath("x"), map[string]any{"data": map[string]any{"n": 1 << 53}}, 400, "2^53"},
		"one deep below":      {itemPath("x"), map[string]any{"data": map[string]any{"a": []any{map[string]any{"n": -9.1e15}}}}, 400, "2^53"},
		"metadata a list":     {itemPath("x"), map[string]any{"data": ok, "metadata": []any{}}, 400, "metadata"},
		"metadata a number":   {itemPath("x"), map[string]any{"data": ok, "metadata": map[string]any{"a": 1}}, 400, "metadata"},
		"cas negative":        {itemPath("x"), map[string]any{"data": ok, "cas": -1}, 400, "cas"},
		"cas not whole":       {itemPath("x"), map[string]any{"data": ok, "cas": 1.5}, 400, "cas"},
		"cas a word":          {itemPath("x"), map[string]any{"data": ok, "cas": "new"}, 400, "cas"},
		"cas of a new item":   {itemPath("x"), map[string]any{"data": ok, "cas": 1}, 409, "no such item"},
		"cas 0, but there":    {itemPath("there"), map[string]any{"data": ok, "cas": 0}, 409, "revision 1"},
		"cas another":         {itemPath("there"), map[string]any{"data": ok, "cas": 2}, 409, "revision 1"},
		"name with dots":      {itemPath("../x"), map[string]any{"data": ok}, 400, "name"},
		"name of a dot":       {itemPath("a/./b"), map[string]any{"data": ok}, 400, "name"},
		"name with a gap":     {itemPath("a//b"), map[string]any{"data": ok}, 400, "name"},
		"name with a slash":   {itemPath("a/"), map[string]any{"data": ok}, 400, "name"},
		"name in unicode":     {itemPath("schlüssel"), map[string]any{"data": ok}, 400, "name"},
		"name with a space":   {itemPath("a b"), map[string]any{"data": ok}, 400, "name"},
		"name with a newline": {itemPath("a\nb"), map[string]any{"data": ok}, 400, "name"},
		"name too long":       {itemPath(strings.Repeat("n", 257)), map[string]any{"data": ok}, 400, "256"},
		"tenant in capitals":  {"tenants/3FA85F64-5717-4562-B3FC-2C963F66AFA6/secrets/x", map[string]any{"data": ok}, 400, "lower case"},
		"tenant no UUID":      {"tenants/acme/secrets/x", map[string]any{"data": ok}, 400, "UUID"},
		"tenant unknown":      {"tenants/00000000-0000-4000-8000-000000000000/secrets/x", map[string]any{"data": ok}, 404, "tenant"},
		"item too large":      {itemPath("x"), map[string]any{"data": map[string]any{"v": strings.Repeat("x", 262144)}}, 413, "max_item_bytes"},
	} {
		t.Run(name, func(t *testing.T) {
			m.t = t
			m.refused(c.status, c.says, update, c.path, c.data)
		})
	}
}

// A value of the wrong type may be a secret in the wrong place.
func TestWrongTypeIsNotRepeated(t *testing.T) {
	m := withTenant(t)
	for path, field := range map[string]string{itemPath("x"): "cas", tenantPath("/dek/rotate"): "reason", "config": "org_id"} {
		for _, value := range []any{[]any{"hush"}, map[string]any{"a": "hush"}} {
			resp, err := m.call(update, path, map[string]any{"data": map[string]any{}, field: value})
			require.Equal(t, 400, code(resp, err))
			require.ErrorContains(t, err, field)
			require.NotContains(t, err.Error(), "hush")
		}
	}
}

func TestItemRoundTrip(t *testing.T) {
	m := withTenant(t)
	path := itemPath("db/main")
	require.EqualValues(t, 1, m.must(update, path, map[string]any{
		"data":     map[string]any{"user": "u", "nested": map[string]any{"list": []any{1, "two", nil, true}}, "n": 9007199254740991},
		"metadata": map[string]any{"owner": "billing"},
	})["revision"])
	first := m.must(read, path, nil)
	require.Equal(t, map[string]any{"user": "u", "nested": map[string]any{"list": []any{1.0, "two", nil, true}}, "n": 9007199254740991.0}, first["data"])
	require.Equal(t, map[string]string{"owner": "billing"}, first["metadata"])
	require.Equal(t, 1, first["key_version"])

	require.EqualValues(t, 2, m.must(update, path, map[string]any{"data": map[string]any{"user": "w"}, "cas": 1})["revision"])
	second := m.must(read, path, nil)
	require.Equal(t, map[string]any{"user": "w"}, second["data"], "a write replaces data")
	require.Empty(t, second["metadata"], "and metadata")
	require.Equal(t, first["created_at"], second["created_at"])

	m.refused(409, "revision 2", del, path, map[string]any{"cas": "1"})
	m.must(del, path, map[string]any{"cas": "2"})
	m.refused(404, "item not found", read, path, nil)
	m.refused(404, "item not found", del, path, nil)
	require.EqualValues(t, 1, m.must(update, path, secret("again"))["revision"], "a new item starts at 1")
}

func TestItemPatch(t *testing.T) {
	m := withTenant(t)
	path := itemPath("p")
	m.refused(404, "item not found", logical.PatchOperation, path, secret("v"))
	m.must(update, path, map[string]any{
		"data":     map[string]any{"a": "1", "b": map[string]any{"c": "2", "d": "3"}},
		"metadata": map[string]any{"x": "1", "y": "2"},
	})
	m.must(logical.PatchOperation, path, map[string]any{
		"data":     map[string]any{"a": nil, "b": map[string]any{"c": "4"}, "e": "5"},
		"metadata": map[string]any{"x": nil, "z": "3"},
		"cas":      1,
	})
	got := m.must(read, path, nil)
	require.Equal(t, map[string]any{"b": map[string]any{"c": "4", "d": "3"}, "e": "5"}, got["data"])
	require.Equal(t, map[string]string{"y": "2", "z": "3"}, got["metadata"])
	require.EqualValues(t, 2, got["revision"])

	for says, data := range map[string]map[string]any{
		"data or metadata":    {"cas": 2},
		"data must be":        {"data": nil},
		"metadata must be an": {"metadata": map[string]any{"x": 1}},
		"2^53":                {"data": map[string]any{"n": 1e300}},
	} {
		m.refused(400, says, logical.PatchOperation, path, data)
	}
	m.refused(409, "revision 2", logical.PatchOperation, path, map[string]any{"data": map[string]any{}, "cas": 1})
}

func TestRepeatedWriteIsRecognized(t *testing.T) {
	m := withTenant(t)
	for range 2 {
		resp, err := m.callAs("request-1", update, itemPath("x"), map[string]any{"data": map[string]any{"v": 1}, "cas": 0})
		require.NoError(t, err)
		require.EqualValues(t, 1, resp.Data["revision"])
	}
	m.must(logical.PatchOperation, itemPath("x"), secret("y"))
	require.EqualValues(t, 2, m.must(read, itemPath("x"), nil)["revision"])
}

func TestListItems(t *testing.T) {
	m := withTenant(t)
	require.Nil(t, m.must(list, tenantPath("/secrets/"), nil)["keys"], "an empty list, Vault's 404")
	for _, name := range []string{"b", "a/x", "a", "c:1@d_.-"} {
		m.must(update, itemPath(name), secret("v"))
	}
	require.Equal(t, []string{"a", "a/x", "b", "c:1@d_.-"}, m.must(list, tenantPath("/secrets/"), nil)["keys"])
	require.Nil(t, m.must(list, tenantPath("/apiKeys/"), nil)["keys"], "another kind")
	for says, data := range map[string]map[string]any{
		"limit": {"limit": 0}, "limit must": {"limit": -1}, "limit must be a whole number": {"limit": "x"}, "after": {"after": "../x"},
	} {
		m.refused(400, says, list, tenantPath("/secrets/"), data)
	}
	m.refused(404, "tenant", list, "tenants/00000000-0000-4000-8000-000000000000/secrets/", nil)
}

func TestMaxItemBytes(t *testing.T) {
	m := withTenant(t)
	m.must(update, "config", map[string]any{"max_item_bytes": 400})
	m.refused(http.StatusRequestEntityTooLarge, "400", update, itemPath("x"), secret(strings.Repeat("x", 400)))
	m.must(update, itemPath("x"), secret(strings.Repeat("x", 200)))
	m.must(update, "config", map[string]any{"max_item_bytes": 393216})
	m.must(update, itemPath("x"), secret(strings.Repeat("x", 393_000)))
	m.must(update, itemPath("y"), secret(strings.Repeat("y", 393_000)))
	require.Len(t, m.must(list, tenantPath("/secrets/"), nil)["keys"], 2)
}

// The vault command sends data=… as a string. What was sent is not repeated.
func TestMistypedFieldIsRefusedWithoutItsValue(t *testing.T) {
	m := withTenant(t)
	for path, data := range map[string]map[string]any{
		itemPath("x"): {"data": `{"password":"hunter2"}`}, tenantPath("/encrypt"): {"batch_input": "hunter2"},
	} {
		_, err := m.call(update, path, data)
		require.ErrorContains(t, err, " must be ")
		require.NotContains(t, err.Error(), "hunter2")
	}
	m.refused(400, "data must be an object; the vault command", update, itemPath("x"), map[string]any{"data": "a"})
}
