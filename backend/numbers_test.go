// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package backend_test

import (
	"encoding/json"
	"testing"

	"github.com/hashicorp/vault/sdk/logical"
	"github.com/stretchr/testify/require"

	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/enginetest"
)

// A fraction is taken if it comes back as it was written; the float64 that arrives
// tells, unless it has become a whole number on its way.
func TestFractionsArriveAsTheyWereWritten(t *testing.T) {
	m := enginetest.WithTenant(t)
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
			m.T = t
			m.Must(enginetest.Update, enginetest.ItemPath("p"), enginetest.Secret("v"))
			data := map[string]any{"data": map[string]any{"a": []any{map[string]any{"n": json.RawMessage(number)}}}}
			if taken {
				m.Must(enginetest.Update, enginetest.ItemPath("x"), data)
				m.Must(logical.PatchOperation, enginetest.ItemPath("p"), data)
				return
			}
			m.Refused(400, "send it as a string", enginetest.Update, enginetest.ItemPath("x"), data)
			m.Refused(400, "send it as a string", logical.PatchOperation, enginetest.ItemPath("p"), data)
		})
	}
}

// Bulk writes take the same numbers, each entry by itself.
func TestFractionsOfBulkWrites(t *testing.T) {
	m := enginetest.WithTenant(t)
	results := m.Must(enginetest.Update, enginetest.TenantPath("/items"), map[string]any{"items": []any{
		map[string]any{"kind": "secrets", "name": "a", "data": map[string]any{"n": 0.30000000000000004}},
		map[string]any{"kind": "secrets", "name": "b", "data": map[string]any{"n": 0.3}},
	}})["results"].([]map[string]any)
	require.Contains(t, results[0]["error"], "15 significant digits")
	require.EqualValues(t, 1, results[1]["revision"])
}
