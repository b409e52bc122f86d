// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package backend_test

import (
	"encoding/base64"
	"encoding/json"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/enginetest"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/keyring"
)

func TestDatakeyOpensThroughDecrypt(t *testing.T) {
	m := enginetest.WithTenant(t)
	seen := map[string]bool{}
	for _, form := range []string{"plaintext", "wrapped"} {
		for bits, bytes := range map[any]int{nil: 32, 128: 16, 256: 32, 512: 64} {
			answer := m.Must(enginetest.Update, enginetest.TenantPath("/datakey/"+form), map[string]any{"bits": bits, "associated_data": enginetest.Encoded("ad")})
			require.Equal(t, 1, answer["key_version"])
			opened := m.Must(enginetest.Update, enginetest.TenantPath("/decrypt"), map[string]any{"ciphertext": answer["ciphertext"], "associated_data": enginetest.Encoded("ad")})
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
			m.Refused(400, "does not open", enginetest.Update, enginetest.TenantPath("/decrypt"), map[string]any{"ciphertext": answer["ciphertext"]})
		}
	}
	require.Equal(t, true, m.VersionList()[0]["external_use"])
}

// The lease is told with each key, and a change of it at once.
func TestDatakeyTellsItsLease(t *testing.T) {
	m := enginetest.WithTenant(t)
	for _, c := range []struct {
		config any
		lease  int64
	}{{nil, 3600}, {"90s", 90}, {0, 0}, {"24h", 86400}} {
		m.Must(enginetest.Update, "config", map[string]any{"data_key_lease": c.config})
		require.Equal(t, c.lease, m.Must(enginetest.Read, "config", nil)["data_key_lease"])
		for _, form := range []string{"plaintext", "wrapped"} {
			require.Equal(t, c.lease, m.Must(enginetest.Update, enginetest.TenantPath("/datakey/"+form), nil)["lease"])
		}
	}
	for _, value := range []any{"25h", -1, "soon", "", 1.5, "100ms"} {
		m.Refused(400, "data_key_lease", enginetest.Update, "config", map[string]any{"data_key_lease": value})
	}
	require.Equal(t, int64(86400), m.Must(enginetest.Read, "config", nil)["data_key_lease"])
}

// TestDecryptTellsTheLeaseOfDataKeys opens keys for envelopes and files, and what may be a
// key of somebody's or any other text.
func TestDecryptTellsTheLeaseOfDataKeys(t *testing.T) {
	m := enginetest.WithTenant(t)
	m.Must(enginetest.Update, "config", map[string]any{"data_key_lease": "90s"})
	var entries []any
	for _, ad := range []string{keyring.EnvelopeKeyAD, keyring.FileKeyAD, "another", ""} {
		key := m.Must(enginetest.Update, enginetest.TenantPath("/datakey/wrapped"), map[string]any{"associated_data": enginetest.Encoded(ad)})
		entries = append(entries, map[string]any{"ciphertext": key["ciphertext"], "associated_data": enginetest.Encoded(ad)})
	}
	for i, lease := range []any{int64(90), int64(90), nil, nil} {
		require.Equal(t, lease, m.Must(enginetest.Update, enginetest.TenantPath("/decrypt"), entries[i].(map[string]any))["lease"])
	}
	m.Must(enginetest.Update, "config", map[string]any{"data_key_lease": 0})
	answered, err := json.Marshal(m.Must(enginetest.Update, enginetest.TenantPath("/decrypt"), map[string]any{"batch_input": entries}))
	require.NoError(t, err)
	require.Equal(t, 2, strings.Count(string(answered), `"lease":0`))
	require.Equal(t, 2, strings.Count(string(answered), `lease`))
}

func TestDatakeyIsRefused(t *testing.T) {
	m := enginetest.WithTenant(t)
	for _, form := range []string{"plaintext", "wrapped"} {
		path := enginetest.TenantPath("/datakey/" + form)
		for _, bits := range []any{0, 1, -256, 255, 1024, 256.5, "many"} {
			m.Refused(400, "bits", enginetest.Update, path, map[string]any{"bits": bits})
		}
		m.Refused(400, "associated_data", enginetest.Update, path, map[string]any{"associated_data": "!"})
		m.Refused(404, "tenant", enginetest.Update, "tenants/"+enginetest.OtherTenant+"/datakey/"+form, nil)
		m.Refused(400, "tenant_id", enginetest.Update, "tenants/X/datakey/"+form, nil)
	}
	require.Empty(t, externalKeys(m))
}
