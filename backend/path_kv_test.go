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

// kvPath is the path of a secret of the tenant below one of KV's parts.
func kvPath(part, name string) string { return part + "/" + enginetest.TenantID + "/secrets/" + name }

// kvSecret is the body of a write.
func kvSecret(value string) map[string]any { return enginetest.Secret(value) }

// kvStatus makes a request and returns the status that Vault answers.
func kvStatus(m *enginetest.Mount, op logical.Operation, path string, data map[string]any) int {
	m.T.Helper()
	resp, err := m.Call(op, path, data)
	status := enginetest.Code(resp, err)
	switch {
	case err != nil || resp != nil && resp.IsError():
		return status
	case resp == nil && op == enginetest.Read:
		return http.StatusNotFound
	case resp == nil:
		return http.StatusNoContent
	case resp.Data[logical.HTTPStatusCode] != nil:
		return resp.Data[logical.HTTPStatusCode].(int)
	}
	return status
}

func TestKVVersionIsTheRevision(t *testing.T) {
	m := enginetest.WithTenant(t)
	written := m.Must(enginetest.Update, kvPath("data", "db/main"), kvSecret("a"))
	require.EqualValues(t, 1, written["version"])
	require.EqualValues(t, 2, m.Must(enginetest.Update, enginetest.ItemPath("db/main"), map[string]any{
		"data": map[string]any{"value": "b"}, "metadata": map[string]any{"owner": "billing"},
	})["revision"])

	read := m.Must(enginetest.Read, kvPath("data", "db/main"), nil)
	require.Equal(t, map[string]any{"value": "b"}, read["data"])
	version := read["metadata"].(map[string]any)
	require.EqualValues(t, 2, version["version"])
	require.Equal(t, map[string]string{"owner": "billing"}, version["custom_metadata"])

	require.EqualValues(t, 3, m.Must(enginetest.Update, kvPath("data", "db/main"), kvSecret("c"))["version"])
	item := m.Must(enginetest.Read, enginetest.ItemPath("db/main"), nil)
	require.EqualValues(t, 3, item["revision"])
	require.Equal(t, map[string]any{"value": "c"}, item["data"])
	require.Equal(t, map[string]string{"owner": "billing"}, item["metadata"], "a write of data keeps them")
	require.Equal(t, item["updated_at"], m.Must(enginetest.Read, kvPath("data", "db/main"), nil)["metadata"].(map[string]any)["created_time"])

	patched := m.Must(logical.PatchOperation, kvPath("data", "db/main"), map[string]any{"data": map[string]any{"value": nil, "user": "u"}})
	require.EqualValues(t, 4, patched["version"])
	require.Equal(t, map[string]any{"user": "u"}, m.Must(enginetest.Read, enginetest.ItemPath("db/main"), nil)["data"])
}

func TestKVOnlyTheCurrentVersionIsThere(t *testing.T) {
	m := enginetest.WithTenant(t)
	for range 2 {
		m.Must(enginetest.Update, kvPath("data", "x"), kvSecret("a"))
	}
	for version, status := range map[any]int{0: 200, 2: 200, "2": 200, -1: 200, 1: 404, 3: 404, "x": 400} {
		for _, part := range []string{"data", "subkeys"} {
			require.Equal(t, status, kvStatus(m, enginetest.Read, kvPath(part, "x"), map[string]any{"version": version}), "%s %v", part, version)
		}
	}
}

func TestKVCheckAndSet(t *testing.T) {
	m := enginetest.WithTenant(t)
	write := func(cas any) map[string]any {
		return map[string]any{"data": map[string]any{"v": "1"}, "options": map[string]any{"cas": cas}}
	}
	const mismatch, unparsed = "check-and-set parameter did not match the current version", "error parsing check-and-set parameter"
	path := kvPath("data", "x")
	m.Refused(400, mismatch, enginetest.Update, path, write(1))
	require.EqualValues(t, 1, m.Must(enginetest.Update, path, write(0))["version"])
	m.Refused(400, mismatch, enginetest.Update, path, write(0))
	m.Refused(400, mismatch, enginetest.Update, path, write(nil))
	m.Refused(400, mismatch, enginetest.Update, path, write(-1))
	m.Refused(400, mismatch, logical.PatchOperation, path, write(2))
	for _, bad := range []any{"new", 1.5, []any{1}, map[string]any{}} {
		m.Refused(400, unparsed, enginetest.Update, path, write(bad))
	}
	require.EqualValues(t, 2, m.Must(enginetest.Update, path, write("1"))["version"])
	require.EqualValues(t, 3, m.Must(logical.PatchOperation, path, write(2))["version"])
}

func TestKVDeletes(t *testing.T) {
	for name, c := range map[string]struct {
		op   logical.Operation
		part string
		data map[string]any
		gone bool
	}{
		"data":                      {enginetest.Delete, "data", nil, true},
		"metadata":                  {enginetest.Delete, "metadata", nil, true},
		"the current version":       {enginetest.Update, "delete", map[string]any{"versions": []any{1, 2}}, true},
		"as text":                   {enginetest.Update, "delete", map[string]any{"versions": "2"}, true},
		"destroying the current":    {enginetest.Update, "destroy", map[string]any{"versions": []any{2}}, true},
		"an older version":          {enginetest.Update, "delete", map[string]any{"versions": []any{1}}, false},
		"destroying an older one":   {enginetest.Update, "destroy", map[string]any{"versions": []any{1, 3, 0, -2}}, false},
		"bringing the version back": {enginetest.Update, "undelete", map[string]any{"versions": []any{2}}, false},
	} {
		t.Run(name, func(t *testing.T) {
			m := enginetest.WithTenant(t)
			require.Equal(t, 204, kvStatus(m, c.op, kvPath(c.part, "x"), c.data), "where there is none")
			for range 2 {
				m.Must(enginetest.Update, kvPath("data", "x"), kvSecret("a"))
			}
			require.Equal(t, 204, kvStatus(m, c.op, kvPath(c.part, "x"), c.data))
			if c.gone {
				m.Refused(404, "item not found", enginetest.Read, enginetest.ItemPath("x"), nil)
				require.Equal(t, 404, kvStatus(m, enginetest.Read, kvPath("metadata", "x"), nil))
				return
			}
			require.EqualValues(t, 2, m.Must(enginetest.Read, enginetest.ItemPath("x"), nil)["revision"])
		})
	}
}

func TestKVListsByFolder(t *testing.T) {
	m := enginetest.WithTenant(t)
	for _, name := range []string{"b", "a/x", "a/y/z", "a", "a.b", "a-c/d", "c/d/e/f"} {
		m.Must(enginetest.Update, kvPath("data", name), kvSecret("v"))
	}
	folder := func(path string, data map[string]any) any {
		return m.Must(enginetest.List, "metadata/"+enginetest.TenantID+path, data)["keys"]
	}
	require.Equal(t, []string{"a", "a-c/", "a.b", "a/", "b", "c/"}, folder("/secrets", nil))
	require.Equal(t, []string{"a", "a-c/", "a.b", "a/", "b", "c/"}, folder("/secrets/", nil))
	require.Equal(t, []string{"x", "y/"}, folder("/secrets/a/", nil))
	require.Equal(t, []string{"x", "y/"}, folder("/secrets/a", nil))
	require.Equal(t, []string{"f"}, folder("/secrets/c/d/e/", nil))
	require.Equal(t, []string{"a.b", "a/"}, folder("/secrets/", map[string]any{"after": "a-c/", "limit": 2}))
	require.Empty(t, folder("/secrets/b/", nil), "no folder")
	require.Empty(t, folder("/credentials/", nil))
	m.Refused(400, "name", enginetest.List, "metadata/"+enginetest.TenantID+"/secrets/a//", nil)
	m.Refused(400, "limit", enginetest.List, "metadata/"+enginetest.TenantID+"/secrets/", map[string]any{"limit": 0})
}

func TestKVSubkeys(t *testing.T) {
	m := enginetest.WithTenant(t)
	m.Must(enginetest.Update, kvPath("data", "x"), map[string]any{"data": map[string]any{
		"s": "secret", "l": []any{map[string]any{"k": "secret"}}, "e": map[string]any{},
		"o": map[string]any{"p": map[string]any{"q": "secret"}, "r": 1},
	}})
	one := map[string]any{"s": nil, "l": nil, "e": nil, "o": nil}
	two := map[string]any{"s": nil, "l": nil, "e": nil, "o": map[string]any{"p": nil, "r": nil}}
	all := map[string]any{"s": nil, "l": nil, "e": nil, "o": map[string]any{"p": map[string]any{"q": nil}, "r": nil}}
	for depth, want := range map[int]any{0: all, 1: one, 2: two, 3: all, 9: all, -1: one} {
		require.Equal(t, want, m.Must(enginetest.Read, kvPath("subkeys", "x"), map[string]any{"depth": depth})["subkeys"], depth)
	}
}

// Vault sends a request again after the plugin has crashed.
func TestKVRepeatedRequestChangesNothingMore(t *testing.T) {
	m := enginetest.WithTenant(t)
	for part, c := range map[string]struct {
		op   logical.Operation
		data map[string]any
	}{
		"data":     {enginetest.Update, map[string]any{"data": map[string]any{"v": "1"}, "options": map[string]any{"cas": 0}}},
		"metadata": {logical.PatchOperation, map[string]any{"custom_metadata": map[string]any{"a": "1"}}},
	} {
		if part == "metadata" {
			m.Must(enginetest.Update, kvPath("data", part), kvSecret("a"))
		}
		id := m.RequestID()
		first, err := m.CallAs(id, c.op, kvPath(part, part), c.data)
		require.NoError(t, err)
		before := enginetest.WithoutLog(m.Disk)
		again, err := m.CallAs(id, c.op, kvPath(part, part), c.data)
		require.NoError(t, err)
		require.Equal(t, first, again, part)
		require.Equal(t, before, enginetest.WithoutLog(m.Disk), part)
	}
}

func TestKVRefuses(t *testing.T) {
	m := enginetest.WithTenant(t)
	m.Must(enginetest.Update, kvPath("data", "there"), kvSecret("v"))
	const patch = logical.PatchOperation
	texts := func(v any) map[string]any { return map[string]any{"custom_metadata": map[string]any{"a": v}} }
	unknown := "/00000000-0000-4000-8000-000000000000/secrets/x"
	for name, c := range map[string]struct {
		op     logical.Operation
		path   string
		data   map[string]any
		status int
		says   string
	}{
		"no data":                     {enginetest.Update, kvPath("data", "x"), nil, 400, "no data provided"},
		"data null":                   {enginetest.Update, kvPath("data", "x"), map[string]any{"data": nil}, 400, "no data provided"},
		"data a text":                 {enginetest.Update, kvPath("data", "x"), map[string]any{"data": "hush"}, 400, "data must be an object"},
		"options a text":              {enginetest.Update, kvPath("data", "x"), map[string]any{"data": map[string]any{}, "options": "x"}, 400, "options must be an object"},
		"a patch without data":        {patch, kvPath("data", "there"), nil, 400, "no data provided"},
		"a number too large":          {enginetest.Update, kvPath("data", "x"), map[string]any{"data": map[string]any{"n": 1 << 53}}, 400, "2^53"},
		"the same in a patch":         {patch, kvPath("data", "there"), map[string]any{"data": map[string]any{"n": 1 << 53}}, 400, "2^53"},
		"too large":                   {enginetest.Update, kvPath("data", "x"), kvSecret(strings.Repeat("x", 262144)), 413, "max_item_bytes"},
		"metadata too large":          {enginetest.Update, kvPath("metadata", "x"), texts(strings.Repeat("x", 262144)), 413, "max_item_bytes"},
		"not UTF-8":                   {enginetest.Update, kvPath("metadata", "x"), texts("p\xe4ss"), 400, "custom_metadata"},
		"metadata a list":             {enginetest.Update, kvPath("metadata", "x"), map[string]any{"custom_metadata": []any{"hush"}}, 400, "custom_metadata must be an object"},
		"a member null":               {enginetest.Update, kvPath("metadata", "x"), texts(nil), 400, "custom_metadata must be an object of strings"},
		"a member an object":          {enginetest.Update, kvPath("metadata", "x"), texts(map[string]any{}), 400, "custom_metadata must be an object of strings"},
		"a member a list":             {patch, kvPath("metadata", "there"), texts([]any{1}), 400, "custom_metadata must be an object of strings"},
		"a member too large":          {enginetest.Update, kvPath("metadata", "x"), texts(1 << 53), 400, "custom_metadata must be an object of strings"},
		"cas_required":                {enginetest.Update, kvPath("metadata", "x"), map[string]any{"cas_required": true}, 400, "cas_required"},
		"a condition on metadata":     {patch, kvPath("metadata", "there"), map[string]any{"metadata_cas": 1, "custom_metadata": map[string]any{"a": "1"}}, 400, "metadata_cas"},
		"a condition on each write":   {enginetest.Update, kvPath("metadata", "x"), map[string]any{"metadata_cas_required": true}, 400, "metadata_cas"},
		"delete_version_after":        {patch, kvPath("metadata", "there"), map[string]any{"delete_version_after": "1h"}, 400, "delete_version_after"},
		"no versions to delete":       {enginetest.Update, kvPath("delete", "there"), nil, 400, "No version number provided"},
		"no versions to bring back":   {enginetest.Update, kvPath("undelete", "there"), map[string]any{"versions": []any{}}, 400, "No version number provided"},
		"no versions to destroy":      {enginetest.Update, kvPath("destroy", "there"), nil, 400, "no version number provided"},
		"versions of words":           {enginetest.Update, kvPath("delete", "there"), map[string]any{"versions": "hush"}, 400, "versions must be a list of whole numbers"},
		"a fraction to delete":        {enginetest.Update, kvPath("delete", "there"), map[string]any{"versions": []any{1.5}}, 400, "versions must be a list of whole numbers"},
		"a fraction to destroy":       {enginetest.Update, kvPath("destroy", "there"), map[string]any{"versions": 1.5}, 400, "versions must be a list of whole numbers"},
		"yes for a version":           {enginetest.Update, kvPath("destroy", "there"), map[string]any{"versions": []any{true}}, 400, "versions must be a list of whole numbers"},
		"a fraction to bring back":    {enginetest.Update, kvPath("undelete", "there"), map[string]any{"versions": []any{1, 1.5}}, 400, "versions must be a list of whole numbers"},
		"depth a word":                {enginetest.Read, kvPath("subkeys", "there"), map[string]any{"depth": "x"}, 400, "depth"},
		"a name with dots":            {enginetest.Update, kvPath("data", "../x"), kvSecret("v"), 400, "name"},
		"a folder's name":             {enginetest.Read, kvPath("metadata", "there/"), nil, 400, "name"},
		"a tenant in capitals":        {enginetest.Read, "data/3FA85F64-5717-4562-B3FC-2C963F66AFA6/secrets/x", nil, 400, "lower case"},
		"a read of an unknown tenant": {enginetest.Read, "data" + unknown, nil, 404, "tenant not found"},
		"a write of one":              {enginetest.Update, "data" + unknown, kvSecret("v"), 404, "tenant not found"},
		"metadata of one":             {enginetest.Update, "metadata" + unknown, texts("1"), 404, "tenant not found"},
		"a patch of one":              {patch, "metadata" + unknown, texts("1"), 404, "tenant not found"},
		"a deletion of one":           {enginetest.Delete, "data" + unknown, nil, 404, "tenant not found"},
		"bringing back of one":        {enginetest.Update, "undelete" + unknown, map[string]any{"versions": 1}, 404, "tenant not found"},
		"a list of one":               {enginetest.List, "metadata/00000000-0000-4000-8000-000000000000/secrets/", nil, 404, "tenant not found"},
		"a list of data":              {enginetest.List, kvPath("data", "there"), nil, 405, "only read, write, patch, delete"},
	} {
		t.Run(name, func(t *testing.T) {
			m.T = t
			m.Refused(c.status, c.says, c.op, c.path, c.data)
		})
	}
	m.T = t
	require.Equal(t, 404, kvStatus(m, patch, kvPath("metadata", "x"), texts("1")), "a patch creates nothing")
	require.Equal(t, 404, kvStatus(m, patch, kvPath("metadata", "x"), nil))
	require.Equal(t, 404, kvStatus(m, patch, kvPath("data", "x"), kvSecret("v")))
	require.Equal(t, 204, kvStatus(m, enginetest.Update, kvPath("metadata", "x"), map[string]any{"cas_required": false, "metadata_cas_required": false, "delete_version_after": "0s", "max_versions": 1}))
	require.Equal(t, 404, kvStatus(m, enginetest.Read, kvPath("metadata", "x"), nil), "nothing was named that is kept")
	resp, err := m.Call(enginetest.Update, kvPath("metadata", "there"), map[string]any{"max_versions": 5})
	require.NoError(t, err)
	require.Len(t, resp.Warnings, 1)
}
