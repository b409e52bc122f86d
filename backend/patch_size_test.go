// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package backend_test

import (
	"strings"
	"testing"

	"github.com/hashicorp/vault/sdk/logical"

	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/enginetest"
)

// After max_item_bytes was lowered, an item that is larger can be patched as long as it
// does not grow.
func TestPatchOfALargeItem(t *testing.T) {
	m := enginetest.WithTenant(t)
	of := func(n int) map[string]any {
		return map[string]any{"a": strings.Repeat("a", n), "b": "12345678"}
	}
	m.Must(enginetest.Update, enginetest.ItemPath("x"), map[string]any{"data": of(2000), "metadata": map[string]any{"m": "1"}})
	m.Must(enginetest.Update, "config", map[string]any{"max_item_bytes": 1000})
	patch := func(data, metadata map[string]any) map[string]any {
		return map[string]any{"data": data, "metadata": metadata}
	}
	m.Must(logical.PatchOperation, enginetest.ItemPath("x"), patch(map[string]any{"b": "87654321"}, map[string]any{"m": "2"}))
	m.Must(logical.PatchOperation, enginetest.ItemPath("x"), patch(map[string]any{"b": "short"}, map[string]any{}))
	m.Refused(413, "max_item_bytes", logical.PatchOperation, enginetest.ItemPath("x"), patch(map[string]any{"b": "longer than it was"}, map[string]any{}))
	m.Refused(413, "max_item_bytes", logical.PatchOperation, enginetest.ItemPath("x"), patch(map[string]any{"c": 1}, map[string]any{}))
	m.Refused(413, "max_item_bytes", enginetest.Update, enginetest.ItemPath("x"), map[string]any{"data": of(1990)})
	m.Must(logical.PatchOperation, enginetest.ItemPath("x"), patch(map[string]any{"a": "a"}, map[string]any{}))
	m.Refused(413, "max_item_bytes", logical.PatchOperation, enginetest.ItemPath("x"), patch(map[string]any{"a": strings.Repeat("a", 1500)}, map[string]any{}))
	m.Must(enginetest.Update, enginetest.ItemPath("x"), map[string]any{"data": of(500)})
}

// An item counts as many bytes as its value has: a sign that HTML escapes is one byte, too.
func TestSignsOfHTMLCountOnce(t *testing.T) {
	m := enginetest.NewMount(t)
	defer m.Close()
	m.Must(enginetest.Update, enginetest.TenantPath(""), nil)
	m.Must(enginetest.Update, "config", map[string]any{"max_item_bytes": 1000})
	m.Must(enginetest.Update, enginetest.ItemPath("x"), map[string]any{"data": map[string]any{"v": strings.Repeat("<>&", 250)}})
}
