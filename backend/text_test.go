// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package backend_test

import (
	"testing"

	"github.com/hashicorp/vault/sdk/logical"
	"github.com/stretchr/testify/require"

	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/enginetest"
)

// Vault's JSON makes U+FFFD of what is not UTF-8, so it would be stored changed.
func TestTextThatIsNotUTF8IsRefused(t *testing.T) {
	m := enginetest.WithTenant(t)
	m.Must(enginetest.Update, enginetest.ItemPath("there"), enginetest.Secret("v"))
	const bad, patch = "p\xe4ss", logical.PatchOperation
	ok := map[string]any{"v": "1"}
	rotation := "/dek/rotations/rot-00000000-0000-4000-8000-000000000000"
	for name, c := range map[string]struct {
		op   logical.Operation
		path string
		data map[string]any
		says string
	}{
		"a value":              {enginetest.Update, enginetest.ItemPath("x"), map[string]any{"data": map[string]any{"pw": bad}}, "data"},
		"a lone surrogate":     {enginetest.Update, enginetest.ItemPath("x"), map[string]any{"data": map[string]any{"pw": "a\ufffdb"}}, "data"},
		"a name in data":       {enginetest.Update, enginetest.ItemPath("x"), map[string]any{"data": map[string]any{bad: "v"}}, "data"},
		"a value below":        {enginetest.Update, enginetest.ItemPath("x"), map[string]any{"data": map[string]any{"a": []any{1, map[string]any{"b": bad}}}}, "data"},
		"a name below":         {enginetest.Update, enginetest.ItemPath("x"), map[string]any{"data": map[string]any{"a": []any{map[string]any{bad: 1}}}}, "data"},
		"a value of metadata":  {enginetest.Update, enginetest.ItemPath("x"), map[string]any{"data": ok, "metadata": map[string]any{"a": bad}}, "metadata"},
		"a name in metadata":   {enginetest.Update, enginetest.ItemPath("x"), map[string]any{"data": ok, "metadata": map[string]any{bad: "a"}}, "metadata"},
		"a patch":              {patch, enginetest.ItemPath("there"), map[string]any{"data": map[string]any{"a": bad}}, "data"},
		"a name to take out":   {patch, enginetest.ItemPath("there"), map[string]any{"data": map[string]any{bad: nil}}, "data"},
		"a patch of metadata":  {patch, enginetest.ItemPath("there"), map[string]any{"metadata": map[string]any{"a": bad}}, "metadata"},
		"an item's name":       {enginetest.Update, enginetest.ItemPath("p\ufffdss"), map[string]any{"data": ok}, "name"},
		"a field's name":       {enginetest.Update, enginetest.ItemPath("x"), map[string]any{"data": ok, bad: 1}, "the name of a field"},
		"after":                {enginetest.List, enginetest.TenantPath("/secrets"), map[string]any{"after": bad}, "after"},
		"after, of tenants":    {enginetest.List, "tenants", map[string]any{"after": bad}, "after"},
		"display_name":         {enginetest.Update, enginetest.TenantPath(""), map[string]any{"display_name": bad}, "display_name"},
		"rotation_interval":    {enginetest.Update, enginetest.TenantPath(""), map[string]any{"rotation_interval": bad}, "rotation_interval"},
		"the organization's":   {enginetest.Update, "key/rotationSettings", map[string]any{"rotation_interval": bad}, "rotation_interval"},
		"org_id":               {enginetest.Update, "config", map[string]any{"org_id": bad}, "org_id"},
		"reason":               {enginetest.Update, enginetest.TenantPath("/dek/rotate"), map[string]any{"reason": bad}, "reason"},
		"idempotency_key":      {enginetest.Update, enginetest.TenantPath("/dek/rotate"), map[string]any{"idempotency_key": bad}, "idempotency_key"},
		"key_type":             {enginetest.Update, enginetest.TenantPath("/dek/rotate"), map[string]any{"key_type": bad}, "key_type"},
		"an import's reason":   {enginetest.Update, enginetest.TenantPath("/dek/import"), map[string]any{"reason": bad}, "reason"},
		"an import's hash":     {enginetest.Update, enginetest.TenantPath("/dek/import"), map[string]any{"hash_function": bad}, "hash_function"},
		"a campaign's reason":  {enginetest.Update, "rotations", map[string]any{"all": true, "reason": bad}, "reason"},
		"a campaign's tenants": {enginetest.Update, "rotations", map[string]any{"tenants": []any{bad}}, "tenants"},
		"the KEK's reason":     {enginetest.Update, "kek/rotate", map[string]any{"reason": bad}, "reason"},
		"of an action":         {enginetest.Update, enginetest.TenantPath(rotation + "/pause"), map[string]any{"reason": bad}, "reason"},
		"plaintext":            {enginetest.Update, enginetest.TenantPath("/encrypt"), map[string]any{"plaintext": bad}, "plaintext"},
		"associated_data":      {enginetest.Update, enginetest.TenantPath("/encrypt"), map[string]any{"plaintext": "", "associated_data": bad}, "associated_data"},
		"a single's reference": {enginetest.Update, enginetest.TenantPath("/encrypt"), map[string]any{"plaintext": "", "reference": bad}, "reference"},
	} {
		t.Run(name, func(t *testing.T) {
			m.T = t
			m.Refused(400, c.says, c.op, c.path, c.data)
		})
	}
}

// An entry of a bulk write fails by itself.
func TestBulkTextThatIsNotUTF8FailsByItself(t *testing.T) {
	m := enginetest.WithTenant(t)
	entry := func(name string, data, metadata map[string]any) any {
		return map[string]any{"kind": "secrets", "name": name, "data": data, "metadata": metadata}
	}
	ok := map[string]any{"v": "naïve 日本"}
	results := m.Must(enginetest.Update, enginetest.TenantPath("/items"), map[string]any{"items": []any{
		entry("a", ok, nil),
		entry("b", map[string]any{"v": []any{"p\xe4ss"}}, nil),
		entry("c", ok, map[string]any{"p\xe4ss": "v"}),
		entry("d", ok, map[string]any{"a": "ü"}),
	}})["results"].([]map[string]any)
	require.EqualValues(t, 1, results[0]["revision"])
	require.Contains(t, results[1]["error"], "data must not have bytes that are not UTF-8")
	require.Contains(t, results[2]["error"], "metadata must not have bytes that are not UTF-8")
	require.EqualValues(t, 1, results[3]["revision"])
	require.Equal(t, ok, m.Must(enginetest.Read, enginetest.ItemPath("a"), nil)["data"])
	m.Refused(404, "item not found", enginetest.Read, enginetest.ItemPath("b"), nil)
}
