// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package api

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// Which field is named does not change from request to request.
func TestCheckTextNamesTheFirstField(t *testing.T) {
	for range 20 {
		err := CheckText(map[string]any{"c": "\xff", "a": "\xff", "b": "\xff", "d": "fine"})
		require.ErrorContains(t, err, "a must not")
	}
	require.NoError(t, CheckText(nil))
	require.NoError(t, CheckText(map[string]any{"a": "日本\x00\u2028😀", "b": nil, "c": 1.5, "d": true}))
}

// BenchmarkCheckText is the cost for a write of 600 bytes, and for a long text.
func BenchmarkCheckText(b *testing.B) {
	item := map[string]any{
		"data":     map[string]any{"username": strings.Repeat("u", 40), "password": strings.Repeat("p", 40), "notes": strings.Repeat("n", 400)},
		"metadata": map[string]any{"owner": "billing", "purpose": strings.Repeat("m", 100)},
		"name":     "db/main", "kind": "secrets", "tenant_id": "3fa85f64-5717-4562-b3fc-2c963f66afa6",
	}
	long := map[string]any{"plaintext": strings.Repeat("QUJD", 256<<10)}
	for name, fields := range map[string]map[string]any{"item": item, "1MiB": long} {
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				if CheckText(fields) != nil {
					b.Fatal("refused")
				}
			}
		})
	}
}
