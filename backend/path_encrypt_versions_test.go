// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package backend

import (
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/vault/sdk/logical"
	"github.com/stretchr/testify/require"

	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/storagetest"
)

// rotated rotates to the end.
func (m *mount) rotated(data map[string]any) {
	m.t.Helper()
	id := m.must(update, tenantPath("/dek/rotate"), data)["rotation_id"].(string)
	advance(time.Minute)
	require.Equal(m.t, "completed", m.status(id)["status"])
}

func TestCiphertextsOutliveRotations(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMount(t)
		defer m.close()
		m.destroyAtOnce()
		m.must(update, tenantPath(""), nil)
		ciphertexts := []string{m.encrypted(testTenant, "0", "ad")}
		for i, keyType := range []string{"aes256-gcm", "xaes256-gcm", "aes256-gcm"} {
			m.rotated(map[string]any{"key_type": keyType})
			ciphertexts = append(ciphertexts, m.encrypted(testTenant, fmt.Sprint(i+1), "ad"))
		}
		for i, c := range ciphertexts {
			require.True(t, strings.HasPrefix(c, fmt.Sprintf("dek:v%d:", i+1)))
			m.opensTo(fmt.Sprint(i), c, "ad")
			answer := m.must(update, tenantPath("/rewrap"), map[string]any{"ciphertext": c, "associated_data": encoded("ad")})
			require.Equal(t, 4, answer["key_version"])
			require.NotEqual(t, c, answer["ciphertext"], "a ciphertext that is current is sealed afresh too")
			require.NotContains(t, answer, "plaintext")
			m.opensTo(fmt.Sprint(i), answer["ciphertext"].(string), "ad")
		}
		for _, v := range m.versionList() {
			require.Equal(t, true, v["external_use"])
			require.Equal(t, map[bool]string{true: "active", false: "deactivated"}[v["version"] == 4], v["state"])
		}
	})
}

// versionList is what dek lists.
func (m *mount) versionList() []map[string]any {
	m.t.Helper()
	return m.must(read, tenantPath("/dek"), nil)["versions"].([]map[string]any)
}

// Only the first use makes the key, and reading does not.
func TestExternalKeyIsMadeAtFirstUse(t *testing.T) {
	m := withTenant(t)
	require.Equal(t, false, m.versionList()[0]["external_use"])
	m.refused(400, "does not open", update, tenantPath("/decrypt"), map[string]any{"ciphertext": "dek:v1:AAAA"})
	require.Empty(t, m.externalKeys())
	m.encrypted(testTenant, "x")
	require.Len(t, m.externalKeys(), 1)
	require.Equal(t, true, m.versionList()[0]["external_use"])
	m.encrypted(testTenant, "y")
	require.Len(t, m.externalKeys(), 1)
}

// However many come first at once: one key.
func TestFirstUseByManyAtOnce(t *testing.T) {
	m := withTenant(t)
	const many = 16
	ciphertexts := make([]string, many)
	var wg sync.WaitGroup
	for i := range many {
		wg.Go(func() {
			resp, err := m.b.HandleRequest(t.Context(), &logical.Request{
				Operation: update, Path: tenantPath("/encrypt"), Storage: m.storage,
				Data: map[string]any{"plaintext": encoded(fmt.Sprint(i))},
			})
			if err == nil {
				ciphertexts[i], _ = resp.Data["ciphertext"].(string)
			}
		})
	}
	wg.Wait()
	require.Len(t, m.externalKeys(), 1)
	for i, c := range ciphertexts {
		m.opensTo(fmt.Sprint(i), c)
	}
}

// The Put of a first key that fails with effect is hidden by Vault's cache. The
// next request makes another key, and what it seals opens whatever the cache
// shows later.
func TestHiddenExternalKeyIsReplaced(t *testing.T) {
	m := withTenant(t)
	m.storage.Fail(on("put", "keys/", storagetest.AfterStale))
	resp, err := m.call(update, tenantPath("/encrypt"), map[string]any{"plaintext": ""})
	require.Equal(t, 500, code(resp, err))
	m.storage.Fail(nil)
	require.Len(t, m.externalKeys(), 1, "it took effect")
	require.Equal(t, true, m.versionList()[0]["external_use"], "a List shows it")

	ciphertext := m.encrypted(testTenant, "acknowledged")
	m.opensTo("acknowledged", ciphertext)
	m.close()
	m.disk.RestartVault()
	again := openMount(t, m.disk, 0, storagetest.None)
	defer again.close()
	again.opensTo("acknowledged", ciphertext)
}

// A missing KEK is a fault. It must not pass for a key that is to be made.
func TestMissingKEKMakesNoNewKey(t *testing.T) {
	m := withTenant(t)
	ciphertext := m.encrypted(testTenant, "x")
	m.close()
	for _, key := range m.disk.Keys("kek/keys/") {
		m.disk.Set(key, nil)
	}
	again := openMount(t, m.disk, 0, storagetest.None)
	defer again.close()
	before := m.disk.Clone()
	for path, data := range map[string]map[string]any{
		"/encrypt": {"plaintext": ""}, "/decrypt": {"ciphertext": ciphertext}, "/rewrap": {"ciphertext": ciphertext}, "/datakey/wrapped": nil,
	} {
		resp, err := again.call(update, tenantPath(path), data)
		require.Equal(t, 500, code(resp, err), path)
	}
	require.Equal(t, before, m.disk.Clone())
}
