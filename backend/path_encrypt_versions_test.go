// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package backend_test

import (
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/hashicorp/vault/sdk/logical"
	"github.com/stretchr/testify/require"

	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/enginetest"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/storagetest"
)

func TestCiphertextsOutliveRotations(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := enginetest.NewMount(t)
		defer m.Close()
		m.DestroyAtOnce()
		m.Must(enginetest.Update, enginetest.TenantPath(""), nil)
		ciphertexts := []string{m.Encrypted(enginetest.TenantID, "0", "ad")}
		for i, keyType := range []string{"aes256-gcm", "xaes256-gcm", "aes256-gcm"} {
			m.Rotated(map[string]any{"key_type": keyType})
			ciphertexts = append(ciphertexts, m.Encrypted(enginetest.TenantID, fmt.Sprint(i+1), "ad"))
		}
		for i, c := range ciphertexts {
			require.True(t, strings.HasPrefix(c, fmt.Sprintf("dek:v%d:", i+1)))
			m.OpensTo(fmt.Sprint(i), c, "ad")
			answer := m.Must(enginetest.Update, enginetest.TenantPath("/rewrap"), map[string]any{"ciphertext": c, "associated_data": enginetest.Encoded("ad")})
			require.Equal(t, 4, answer["key_version"])
			require.NotEqual(t, c, answer["ciphertext"], "a ciphertext that is current is sealed afresh too")
			require.NotContains(t, answer, "plaintext")
			m.OpensTo(fmt.Sprint(i), answer["ciphertext"].(string), "ad")
		}
		for _, v := range m.VersionList() {
			require.Equal(t, true, v["external_use"])
			require.Equal(t, map[bool]string{true: "active", false: "deactivated"}[v["version"] == 4], v["state"])
		}
	})
}

// Only the first use makes the key, and reading does not.
func TestExternalKeyIsMadeAtFirstUse(t *testing.T) {
	m := enginetest.WithTenant(t)
	require.Equal(t, false, m.VersionList()[0]["external_use"])
	m.Refused(400, "does not open", enginetest.Update, enginetest.TenantPath("/decrypt"), map[string]any{"ciphertext": "dek:v1:AAAA"})
	require.Empty(t, externalKeys(m))
	m.Encrypted(enginetest.TenantID, "x")
	require.Len(t, externalKeys(m), 1)
	require.Equal(t, true, m.VersionList()[0]["external_use"])
	m.Encrypted(enginetest.TenantID, "y")
	require.Len(t, externalKeys(m), 1)
}

// However many come first at once: one key.
func TestFirstUseByManyAtOnce(t *testing.T) {
	m := enginetest.WithTenant(t)
	const many = 16
	ciphertexts := make([]string, many)
	var wg sync.WaitGroup
	for i := range many {
		wg.Go(func() {
			resp, err := m.Engine.HandleRequest(t.Context(), &logical.Request{
				Operation: enginetest.Update, Path: enginetest.TenantPath("/encrypt"), Storage: m.Storage,
				Data: map[string]any{"plaintext": enginetest.Encoded(fmt.Sprint(i))},
			})
			if err == nil {
				ciphertexts[i], _ = resp.Data["ciphertext"].(string)
			}
		})
	}
	wg.Wait()
	require.Len(t, externalKeys(m), 1)
	for i, c := range ciphertexts {
		m.OpensTo(fmt.Sprint(i), c)
	}
}

// The Put of a first key that fails with effect is hidden by Vault's cache. The
// next request makes another key, and what it seals opens whatever the cache
// shows later.
func TestHiddenExternalKeyIsReplaced(t *testing.T) {
	m := enginetest.WithTenant(t)
	m.Storage.Fail(enginetest.FailOn("put", "keys/", storagetest.AfterStale))
	resp, err := m.Call(enginetest.Update, enginetest.TenantPath("/encrypt"), map[string]any{"plaintext": ""})
	require.Equal(t, 500, enginetest.Code(resp, err))
	m.Storage.Fail(nil)
	require.Len(t, externalKeys(m), 1, "it took effect")
	require.Equal(t, true, m.VersionList()[0]["external_use"], "a List shows it")

	ciphertext := m.Encrypted(enginetest.TenantID, "acknowledged")
	m.OpensTo("acknowledged", ciphertext)
	m.Close()
	m.Disk.RestartVault()
	again := enginetest.OpenMount(t, m.Disk, 0, storagetest.None)
	defer again.Close()
	again.OpensTo("acknowledged", ciphertext)
}

// A missing KEK is a fault. It must not pass for a key that is to be made.
func TestMissingKEKMakesNoNewKey(t *testing.T) {
	m := enginetest.WithTenant(t)
	ciphertext := m.Encrypted(enginetest.TenantID, "x")
	m.Close()
	for _, key := range m.Disk.Keys("kek/keys/") {
		m.Disk.Set(key, nil)
	}
	again := enginetest.OpenMount(t, m.Disk, 0, storagetest.None)
	defer again.Close()
	before := enginetest.WithoutLog(m.Disk)
	for path, data := range map[string]map[string]any{
		"/encrypt": {"plaintext": ""}, "/decrypt": {"ciphertext": ciphertext}, "/rewrap": {"ciphertext": ciphertext}, "/datakey/wrapped": nil,
	} {
		resp, err := again.Call(enginetest.Update, enginetest.TenantPath(path), data)
		require.Equal(t, 500, enginetest.Code(resp, err), path)
	}
	require.Equal(t, before, enginetest.WithoutLog(m.Disk))
}
