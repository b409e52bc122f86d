// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package backend_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/hashicorp/vault/sdk/logical"
	"github.com/stretchr/testify/require"

	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/api/encrypt"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/enginetest"
)

// httpAnswer is the answer to a batch: its status, its results, its warnings.
func httpAnswer(m *enginetest.Mount, path string, data map[string]any) (status int, results []map[string]any, warnings []any) {
	m.T.Helper()
	resp, err := m.Call(enginetest.Update, enginetest.TenantPath(path), data)
	require.NoError(m.T, err)
	require.NoError(m.T, resp.Error())
	status = 200
	body := map[string]any{"data": resp.Data, "warnings": resp.Warnings}
	text, err := json.Marshal(body)
	require.NoError(m.T, err)
	if raw := resp.Data[logical.HTTPRawBody]; raw != nil {
		status = resp.Data[logical.HTTPStatusCode].(int)
		text = []byte(raw.(string))
	}
	var decoded struct {
		Data struct {
			Results []map[string]any `json:"batch_results"`
		} `json:"data"`
		Warnings []any `json:"warnings"`
	}
	require.NoError(m.T, json.Unmarshal(text, &decoded))
	return status, decoded.Data.Results, decoded.Warnings
}

func TestBatchKeepsOrderAndReferences(t *testing.T) {
	m := enginetest.WithTenant(t)
	const n = 300
	var in []any
	for i := range n {
		e := map[string]any{"plaintext": enginetest.Encoded(fmt.Sprint(i)), "reference": fmt.Sprintf("r%d", i)}
		if i%2 == 1 {
			e["associated_data"] = enginetest.Encoded(fmt.Sprint("ad", i))
		}
		in = append(in, e)
	}
	status, sealed, _ := httpAnswer(m, "/encrypt", map[string]any{"batch_input": in, "plaintext": "ignored, as it is", "associated_data": 1})
	require.Equal(t, 200, status)
	require.Len(t, sealed, n)
	for _, path := range []string{"/rewrap", "/decrypt"} {
		var next []any
		for i, r := range sealed {
			require.Equal(t, fmt.Sprintf("r%d", i), r["reference"])
			require.Equal(t, 1.0, r["key_version"])
			require.NotContains(t, r, "error")
			require.NotContains(t, r, "plaintext")
			e := map[string]any{"ciphertext": r["ciphertext"], "reference": r["reference"]}
			if i%2 == 1 {
				e["associated_data"] = enginetest.Encoded(fmt.Sprint("ad", i))
			}
			next = append(next, e)
		}
		status, sealed, _ = httpAnswer(m, path, map[string]any{"batch_input": next})
		require.Equal(t, 200, status)
	}
	for i, r := range sealed {
		require.Equal(t, map[string]any{"plaintext": enginetest.Encoded(fmt.Sprint(i)), "reference": fmt.Sprintf("r%d", i)}, r)
	}
}

func TestBatchWithFailures(t *testing.T) {
	m := enginetest.WithTenant(t)
	good := m.Encrypted(enginetest.TenantID, "good")
	bad := []any{
		map[string]any{"ciphertext": "dek:v1:AAAA", "reference": "damaged"},
		map[string]any{"reference": "nothing"},
		map[string]any{"ciphertext": 1, "reference": "a number"},
		map[string]any{"ciphertext": good, "associated_data": "!", "reference": "associated data"},
		map[string]any{"ciphertext": good, "reference": 7},
		map[string]any{"ciphertext": good, "reference": "r\ufffd"},
	}
	mixed := append([]any{map[string]any{"ciphertext": good, "reference": "good"}}, bad...)
	for name, c := range map[string]struct {
		code   any
		input  []any
		status int
		warns  bool
	}{
		"some fail":                   {nil, mixed, 400, false},
		"some fail, 207":              {207, mixed, 207, false},
		"some fail, 200":              {200, mixed, 200, false},
		"some fail, a string":         {"422", mixed, 422, false},
		"all fail, 207":               {207, bad, 400, false},
		"none fails, 207":             {207, mixed[:1], 200, false},
		"a status that Go refuses":    {7, mixed, 400, true},
		"a status that ends nothing":  {100, mixed, 400, true},
		"a status beyond":             {600, mixed, 400, true},
		"no content":                  {204, mixed, 400, true},
		"no content, a string":        {"204", mixed, 400, true},
		"reset content":               {205, mixed, 400, true},
		"not modified":                {304, mixed, 400, true},
		"not modified, none fails":    {304, mixed[:1], 200, true},
		"a status beyond, none fails": {600, mixed[:1], 200, true},
	} {
		t.Run(name, func(t *testing.T) {
			m.T = t
			for path, value := range map[string]string{"/decrypt": "plaintext", "/rewrap": "ciphertext"} {
				status, results, warnings := httpAnswer(m, path, map[string]any{"batch_input": c.input, "partial_failure_response_code": c.code})
				require.Equal(t, c.status, status)
				require.Equal(t, c.warns, len(warnings) > 0)
				require.Len(t, results, len(c.input))
				for i, r := range results {
					reference, _ := c.input[i].(map[string]any)["reference"].(string)
					if strings.Contains(reference, "\ufffd") {
						reference = "" // it did not arrive as it was sent
					}
					require.Equal(t, reference, r["reference"])
					require.Equal(t, reference == "good", r[value] != nil)
					require.Equal(t, reference != "good", r["error"] != nil, "either a value or an error")
				}
			}
		})
	}
}

func TestBatchThatFailsMakesNoKey(t *testing.T) {
	m := enginetest.WithTenant(t)
	status, results, _ := httpAnswer(m, "/encrypt", map[string]any{"batch_input": []any{
		map[string]any{"plaintext": "!"}, map[string]any{}, map[string]any{"plaintext": enginetest.Encoded(strings.Repeat("x", encrypt.MaxPlaintextBytes+1))},
	}})
	require.Equal(t, 400, status)
	require.Len(t, results, 3)
	require.Contains(t, results[2]["error"], "785408")
	require.Empty(t, externalKeys(m))
	status, _, _ = httpAnswer(m, "/encrypt", map[string]any{"batch_input": []any{map[string]any{"plaintext": "!"}, map[string]any{"plaintext": ""}}})
	require.Equal(t, 400, status)
	require.Len(t, externalKeys(m), 1, "one entry did not fail")
}

func TestBatchOfTenThousandWithOneBad(t *testing.T) {
	m := enginetest.WithTenant(t)
	in := make([]any, 10_000)
	for i := range in {
		in[i] = map[string]any{"plaintext": "AAAA"}
	}
	in[4321] = map[string]any{"plaintext": "AAA"}
	status, results, _ := httpAnswer(m, "/encrypt", map[string]any{"batch_input": in})
	require.Equal(t, 400, status)
	require.Len(t, results, len(in))
	for i, r := range results {
		require.Equal(t, i == 4321, r["error"] != nil)
	}
}
