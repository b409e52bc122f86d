// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

//go:build acceptance

package acceptance

import (
	"bytes"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/hashicorp/vault/api"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/vault-plugin-dek/vault-plugin-dek/client"
	"github.com/vault-plugin-dek/vault-plugin-dek/internal/devstack"
)

// clientTenant is a tenant of the client's, which shares no code with the engine.
func clientTenant(t *testing.T, s *devstack.Stack, id string) *client.Tenant {
	t.Helper()
	config := api.DefaultConfig()
	require.NoError(t, config.Error)
	config.Address = s.VaultAddr()
	vault, err := api.NewClient(config)
	require.NoError(t, err)
	vault.SetToken(s.RootToken())
	c, err := client.New(vault)
	require.NoError(t, err)
	tenant, err := c.Tenant(id)
	require.NoError(t, err)
	return tenant
}

// TestContractEnvelopes seals in the process of the test, and opens and rewraps at
// the engine.
func TestContractEnvelopes(t *testing.T) {
	s := shared(t)
	id := newTenant(t, s)
	tenant, path := clientTenant(t, s, id), tenantPath(id)
	aead := tenant.AEAD()
	defer func() { _ = aead.Close() }()
	text, err := aead.Encrypt([]byte("hello"), []byte("row 7"))
	require.NoError(t, err)
	var file bytes.Buffer
	w, err := tenant.EncryptStream(t.Context(), &file, []byte("a file"))
	require.NoError(t, err)
	_, err = w.Write([]byte("its content"))
	require.NoError(t, err)
	require.NoError(t, w.Close())
	line, rest, _ := strings.Cut(file.String(), "\n")

	fields{"current_version": is(1.0), "min_decryption_version": is(1.0)}.check(t, succeeded(t, callRoot(t, s, http.MethodGet, path+"/dek/current", nil)))
	body := map[string]any{"ciphertext": string(text) + "\n", "associated_data": encoded("row 7")}
	fields{"plaintext": is(encoded("hello"))}.check(t, succeeded(t, callRoot(t, s, http.MethodPut, path+"/decrypt", body)))
	body["only_if_older"] = true
	fields{"ciphertext": is(string(text)), "key_version": is(1.0), "changed": is(false)}.check(t, succeeded(t, callRoot(t, s, http.MethodPut, path+"/rewrap", body)))
	refused(t, callRoot(t, s, http.MethodPut, path+"/decrypt", map[string]any{"ciphertext": string(text)}), http.StatusBadRequest, "does not open")
	refused(t, callRoot(t, s, http.MethodPut, path+"/decrypt", map[string]any{"ciphertext": line}), http.StatusBadRequest, "first line of a file")

	rotateTo(t, s, path)
	fields{"current_version": is(2.0), "min_decryption_version": is(1.0)}.check(t, succeeded(t, callRoot(t, s, http.MethodGet, path+"/dek/current", nil)))
	rewrapped := succeeded(t, callRoot(t, s, http.MethodPut, path+"/rewrap", body))
	fields{"ciphertext": isText, "key_version": is(2.0), "changed": is(true)}.check(t, rewrapped)
	newText, _ := rewrapped["ciphertext"].(string)
	assert.True(t, strings.HasPrefix(newText, "dek:v2:e1."))
	newLine, _ := succeeded(t, callRoot(t, s, http.MethodPut, path+"/rewrap", map[string]any{"ciphertext": line}))["ciphertext"].(string)
	assert.True(t, strings.HasPrefix(newLine, "dek:v2:s1."))

	// The client opens what the engine has made, the old and the new.
	for _, text := range []string{string(text), newText} {
		opened, err := aead.Decrypt([]byte(text), []byte("row 7"))
		require.NoError(t, err)
		assert.Equal(t, "hello", string(opened))
	}
	for _, line := range []string{line, newLine} {
		r, err := tenant.DecryptStream(t.Context(), strings.NewReader(line+"\n"+rest), []byte("a file"))
		require.NoError(t, err)
		content, err := io.ReadAll(r)
		require.NoError(t, err)
		assert.Equal(t, "its content", string(content))
	}

	for _, reserved := range []string{"vault-plugin-dek/data-key/v1", "vault-plugin-dek/file-key/v1"} {
		refused(t, callRoot(t, s, http.MethodPut, path+"/encrypt", map[string]any{
			"plaintext": encoded(strings.Repeat("k", 32)), "associated_data": encoded(reserved),
		}), http.StatusBadRequest, "associated_data")
	}
}
