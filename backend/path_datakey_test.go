// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package backend

import (
	"encoding/base64"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestDatakeyOpensThroughDecrypt(t *testing.T) {
	m := withTenant(t)
	seen := map[string]bool{}
	for _, form := range []string{"plaintext", "wrapped"} {
		for bits, bytes := range map[any]int{nil: 32, 128: 16, 256: 32, 512: 64} {
			answer := m.must(update, tenantPath("/datakey/"+form), map[string]any{"bits": bits, "associated_data": encoded("ad")})
			require.Equal(t, 1, answer["key_version"])
			opened := m.must(update, tenantPath("/decrypt"), map[string]any{"ciphertext": answer["ciphertext"], "associated_data": encoded("ad")})
			if form == "plaintext" {
				require.Equal(t, answer["plaintext"], opened["plaintext"])
			} else {
				require.NotContains(t, answer, "plaintext")
			}
			key, err := base64.StdEncoding.DecodeString(opened["plaintext"].(string))
			require.NoError(t, err)
			require.Len(t, key, bytes)
			require.False(t, seen[string(key)], "the same key twice")
			seen[string(key)] = true
			m.refused(400, "does not open", update, tenantPath("/decrypt"), map[string]any{"ciphertext": answer["ciphertext"]})
		}
	}
	require.Equal(t, true, m.versionList()[0]["external_use"])
}

// The lease is told with each key, and a change of it at once.
func TestDatakeyTellsItsLease(t *testing.T) {
	m := withTenant(t)
	for _, c := range []struct {
		config any
		lease  int64
	}{{nil, 3600}, {"90s", 90}, {0, 0}, {"24h", 86400}} {
		m.must(update, "config", map[string]any{"data_key_lease": c.config})
		require.Equal(t, c.lease, m.must(read, "config", nil)["data_key_lease"])
		for _, form := range []string{"plaintext", "wrapped"} {
			require.Equal(t, c.lease, m.must(update, tenantPath("/datakey/"+form), nil)["lease"])
		}
	}
	for _, value := range []any{"25h", -1, "soon", "", 1.5, "100ms"} {
		m.refused(400, "data_key_lease", update, "config", map[string]any{"data_key_lease": value})
	}
	require.Equal(t, int64(86400), m.must(read, "config", nil)["data_key_lease"])
}

func TestDatakeyIsRefused(t *testing.T) {
	m := withTenant(t)
	for _, form := range []string{"plaintext", "wrapped"} {
		path := tenantPath("/datakey/" + form)
		for _, bits := range []any{0, 1, -256, 255, 1024, 256.5, "many"} {
			m.refused(400, "bits", update, path, map[string]any{"bits": bits})
		}
		m.refused(400, "associated_data", update, path, map[string]any{"associated_data": "!"})
		m.refused(404, "tenant", update, "tenants/"+otherTenant+"/datakey/"+form, nil)
		m.refused(400, "tenant_id", update, "tenants/X/datakey/"+form, nil)
	}
	require.Empty(t, m.externalKeys())
}
