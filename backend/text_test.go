// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package backend

import (
	"testing"

	"github.com/hashicorp/vault/sdk/logical"
	"github.com/stretchr/testify/require"
)

// Vault's JSON makes U+FFFD of what is not UTF-8, so it would be stored changed.
func TestTextThatIsNotUTF8IsRefused(t *testing.T) {
	m := withTenant(t)
	m.must(update, itemPath("there"), secret("v"))
	const bad, patch = "p\xe4ss", logical.PatchOperation
	ok := map[string]any{"v": "1"}
	rotation := "/dek/rotations/rot-00000000-0000-4000-8000-000000000000"
	for name, c := range map[string]struct {
		op   logical.Operation
		path string
		data map[string]any
		says string
	}{
		"a value":              {update, itemPath("x"), map[string]any{"data": map[string]any{"pw": bad}}, "data"},
		"a lone surrogate":     {update, itemPath("x"), map[string]any{"data": map[string]any{"pw": "a\ufffdb"}}, "data"},
		"a name in data":       {update, itemPath("x"), map[string]any{"data": map[string]any{bad: "v"}}, "data"},
		"a value below":        {update, itemPath("x"), map[string]any{"data": map[string]any{"a": []any{1, map[string]any{"b": bad}}}}, "data"},
		"a name below":         {update, itemPath("x"), map[string]any{"data": map[string]any{"a": []any{map[string]any{bad: 1}}}}, "data"},
		"a value of metadata":  {update, itemPath("x"), map[string]any{"data": ok, "metadata": map[string]any{"a": bad}}, "metadata"},
		"a name in metadata":   {update, itemPath("x"), map[string]any{"data": ok, "metadata": map[string]any{bad: "a"}}, "metadata"},
		"a patch":              {patch, itemPath("there"), map[string]any{"data": map[string]any{"a": bad}}, "data"},
		"a name to take out":   {patch, itemPath("there"), map[string]any{"data": map[string]any{bad: nil}}, "data"},
		"a patch of metadata":  {patch, itemPath("there"), map[string]any{"metadata": map[string]any{"a": bad}}, "metadata"},
		"an item's name":       {update, itemPath("p\ufffdss"), map[string]any{"data": ok}, "name"},
		"a field's name":       {update, itemPath("x"), map[string]any{"data": ok, bad: 1}, "the name of a field"},
		"after":                {list, tenantPath("/secrets"), map[string]any{"after": bad}, "after"},
		"after, of tenants":    {list, "tenants", map[string]any{"after": bad}, "after"},
		"display_name":         {update, tenantPath(""), map[string]any{"display_name": bad}, "display_name"},
		"rotation_interval":    {update, tenantPath(""), map[string]any{"rotation_interval": bad}, "rotation_interval"},
		"the organization's":   {update, "key/rotationSettings", map[string]any{"rotation_interval": bad}, "rotation_interval"},
		"org_id":               {update, "config", map[string]any{"org_id": bad}, "org_id"},
		"reason":               {update, tenantPath("/dek/rotate"), map[string]any{"reason": bad}, "reason"},
		"idempotency_key":      {update, tenantPath("/dek/rotate"), map[string]any{"idempotency_key": bad}, "idempotency_key"},
		"key_type":             {update, tenantPath("/dek/rotate"), map[string]any{"key_type": bad}, "key_type"},
		"an import's reason":   {update, tenantPath("/dek/import"), map[string]any{"reason": bad}, "reason"},
		"an import's hash":     {update, tenantPath("/dek/import"), map[string]any{"hash_function": bad}, "hash_function"},
		"a campaign's reason":  {update, "rotations", map[string]any{"all": true, "reason": bad}, "reason"},
		"a campaign's tenants": {update, "rotations", map[string]any{"tenants": []any{bad}}, "tenants"},
		"the KEK's reason":     {update, "kek/rotate", map[string]any{"reason": bad}, "reason"},
		"of an action":         {update, tenantPath(rotation + "/pause"), map[string]any{"reason": bad}, "reason"},
		"plaintext":            {update, tenantPath("/encrypt"), map[string]any{"plaintext": bad}, "plaintext"},
		"associated_data":      {update, tenantPath("/encrypt"), map[string]any{"plaintext": "", "associated_data": bad}, "associated_data"},
		"a single's reference": {update, tenantPath("/encrypt"), map[string]any{"plaintext": "", "reference": bad}, "reference"},
	} {
		t.Run(name, func(t *testing.T) {
			m.t = t
			m.refused(400, c.says, c.op, c.path, c.data)
		})
	}
}

// An entry of a bulk write fails by itself.
func TestBulkTextThatIsNotUTF8FailsByItself(t *testing.T) {
	m := withTenant(t)
	entry := func(name string, data, metadata map[string]any) any {
		return map[string]any{"kind": "secrets", "name": name, "data": data, "metadata": metadata}
	}
	ok := map[string]any{"v": "naïve 日本"}
	results := m.must(update, tenantPath("/items"), map[string]any{"items": []any{
		entry("a", ok, nil),
		entry("b", map[string]any{"v": []any{"p\xe4ss"}}, nil),
		entry("c", ok, map[string]any{"p\xe4ss": "v"}),
		entry("d", ok, map[string]any{"a": "ü"}),
	}})["results"].([]map[string]any)
	require.EqualValues(t, 1, results[0]["revision"])
	require.Contains(t, results[1]["error"], "data must not have bytes that are not UTF-8")
	require.Contains(t, results[2]["error"], "metadata must not have bytes that are not UTF-8")
	require.EqualValues(t, 1, results[3]["revision"])
	require.Equal(t, ok, m.must(read, itemPath("a"), nil)["data"])
	m.refused(404, "item not found", read, itemPath("b"), nil)
}
