// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package backend

import (
	"encoding/json"
	"testing"

	"github.com/hashicorp/vault/sdk/logical"
	"github.com/stretchr/testify/require"
)

// A fraction is taken if it comes back as it was written; the float64 that arrives
// tells, unless it has become a whole number on its way.
func TestFractionsArriveAsTheyWereWritten(t *testing.T) {
	m := withTenant(t)
	for number, taken := range map[string]bool{
		"0.1":                    true,
		"-0.5":                   true,
		"1.10":                   true,
		"123456789012.123":       true, // 15 digits
		"12345678901234.5":       true,
		"1e-7":                   true,
		"4.94065645841247e-324":  true, // the smallest
		"1.79769313486231e-300":  true,
		"9007199254740991":       true, // whole
		"2.0":                    true,
		"123456789012345.999":    true, // arrives as a whole number
		"123456789012.123456789": false,
		"0.30000000000000004":    false,
		"3.141592653589793":      false, // 16 digits
		"1234567890123456.5":     false,
		"-0.1234567890123456":    false,
		"9007199254740992":       false,
		"1e16":                   false,
	} {
		t.Run(number, func(t *testing.T) {
			m.t = t
			m.must(update, itemPath("p"), secret("v"))
			data := map[string]any{"data": map[string]any{"a": []any{map[string]any{"n": json.RawMessage(number)}}}}
			if taken {
				m.must(update, itemPath("x"), data)
				m.must(logical.PatchOperation, itemPath("p"), data)
				return
			}
			m.refused(400, "send it as a string", update, itemPath("x"), data)
			m.refused(400, "send it as a string", logical.PatchOperation, itemPath("p"), data)
		})
	}
}

// Bulk writes take the same numbers, each entry by itself.
func TestFractionsOfBulkWrites(t *testing.T) {
	m := withTenant(t)
	results := m.must(update, tenantPath("/items"), map[string]any{"items": []any{
		map[string]any{"kind": "secrets", "name": "a", "data": map[string]any{"n": 0.30000000000000004}},
		map[string]any{"kind": "secrets", "name": "b", "data": map[string]any{"n": 0.3}},
	}})["results"].([]map[string]any)
	require.Contains(t, results[0]["error"], "15 significant digits")
	require.EqualValues(t, 1, results[1]["revision"])
}
