// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package backend_test

import (
	"encoding/base64"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/require"

	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/enginetest"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/keyring/keyringtest"
)

// The associated data of data keys, as clients send them.
const (
	envelopeKeyAD = "vault-plugin-dek/data-key/v1"
	fileKeyAD     = "vault-plugin-dek/file-key/v1"
)

// envelope seals a text as a client does, and returns it with its data key.
func envelope(m *enginetest.Mount, plaintext, ad string) (text, keyText string) {
	m.T.Helper()
	answer := m.Must(enginetest.Update, enginetest.TenantPath("/datakey/plaintext"), map[string]any{"associated_data": enginetest.Encoded(envelopeKeyAD)})
	key, err := base64.StdEncoding.DecodeString(answer["plaintext"].(string))
	require.NoError(m.T, err)
	keyText = answer["ciphertext"].(string)
	content, err := keyringtest.Seal("xaes256-gcm", key, []byte("a nonce of 24 bytes, x24"), []byte(plaintext),
		keyringtest.AssociatedData("vault-plugin-dek/envelope/v1", keyText, ad))
	require.NoError(m.T, err)
	head, sealed := keyText[:strings.LastIndexByte(keyText, ':')+1], keyText[strings.LastIndexByte(keyText, ':')+1:]
	return head + "e1." + sealed + "." + base64.StdEncoding.EncodeToString(content), keyText
}

// opensAsAClient opens an envelope as a client does, which asks for the data key.
func opensAsAClient(m *enginetest.Mount, plaintext, text, ad string) {
	m.T.Helper()
	head, body := text[:strings.LastIndexByte(text, ':')+1], text[strings.LastIndexByte(text, ':')+1:]
	parts := strings.Split(body, ".")
	require.Len(m.T, parts, 3)
	require.Equal(m.T, "e1", parts[0])
	answer := m.Must(enginetest.Update, enginetest.TenantPath("/decrypt"), map[string]any{"ciphertext": head + parts[1], "associated_data": enginetest.Encoded(envelopeKeyAD)})
	key, err := base64.StdEncoding.DecodeString(answer["plaintext"].(string))
	require.NoError(m.T, err)
	content, err := base64.StdEncoding.DecodeString(parts[2])
	require.NoError(m.T, err)
	opened, err := keyringtest.Open("xaes256-gcm", key, content, keyringtest.AssociatedData("vault-plugin-dek/envelope/v1", head+parts[1], ad))
	require.NoError(m.T, err)
	require.Equal(m.T, plaintext, string(opened))
}

func TestEnvelopesOpenAndAreRewrapped(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := enginetest.NewMount(t)
		defer m.Close()
		m.Must(enginetest.Update, enginetest.TenantPath(""), nil)
		old, oldKey := envelope(m, "hello", "row 7")
		bare, _ := envelope(m, "", "")
		m.OpensTo("hello", old, "row 7")
		m.OpensTo("", bare)
		m.Rotated(map[string]any{"key_type": "aes256-gcm"})
		m.OpensTo("hello", old, "row 7")

		data := map[string]any{"ciphertext": old, "associated_data": enginetest.Encoded("row 7"), "only_if_older": true}
		answer := m.Must(enginetest.Update, enginetest.TenantPath("/rewrap"), data)
		require.Equal(t, true, answer["changed"])
		require.Equal(t, 2, answer["key_version"])
		text := answer["ciphertext"].(string)
		require.True(t, strings.HasPrefix(text, "dek:v2:e1."), text)
		require.NotContains(t, text, strings.TrimPrefix(oldKey, "dek:v1:"))
		m.OpensTo("hello", text, "row 7")
		opensAsAClient(m, "hello", text, "row 7")

		data["ciphertext"] = text
		answer = m.Must(enginetest.Update, enginetest.TenantPath("/rewrap"), data)
		require.Equal(t, map[string]any{"ciphertext": text, "changed": false, "key_version": 2}, answer)

		for _, path := range []string{"/decrypt", "/rewrap"} {
			m.Refused(400, "does not open", enginetest.Update, enginetest.TenantPath(path), map[string]any{"ciphertext": text})
			m.Refused(400, "does not open", enginetest.Update, enginetest.TenantPath(path), map[string]any{"ciphertext": strings.Replace(text, "v2", "v1", 1), "associated_data": enginetest.Encoded("row 7")})
			m.Refused(400, "malformed", enginetest.Update, enginetest.TenantPath(path), map[string]any{"ciphertext": text[:30] + "\n" + text[30:], "associated_data": enginetest.Encoded("row 7")})
		}
	})
}

// What rewrap makes of many envelopes at once shares a data key: so a client asks
// for one.
func TestEnvelopesOfABatchShareADataKey(t *testing.T) {
	m := enginetest.WithTenant(t)
	one, _ := envelope(m, "one", "a")
	two, _ := envelope(m, "two", "b")
	status, results, _ := httpAnswer(m, "/rewrap", map[string]any{"batch_input": []any{
		map[string]any{"ciphertext": one, "associated_data": enginetest.Encoded("a")},
		map[string]any{"ciphertext": two, "associated_data": enginetest.Encoded("a")},
		map[string]any{"ciphertext": two, "associated_data": enginetest.Encoded("b")},
	}})
	require.Equal(t, 400, status)
	require.Contains(t, results[1]["error"], "does not open")
	first, second := results[0]["ciphertext"].(string), results[2]["ciphertext"].(string)
	opensAsAClient(m, "one", first, "a")
	opensAsAClient(m, "two", second, "b")
	require.Equal(t, strings.Split(first, ".")[1], strings.Split(second, ".")[1])
}

// Nothing that a caller chose passes for a data key.
func TestAssociatedDataOfDataKeysAreReserved(t *testing.T) {
	m := enginetest.WithTenant(t)
	for _, reserved := range []string{envelopeKeyAD, fileKeyAD} {
		data := map[string]any{"plaintext": enginetest.Encoded(strings.Repeat("k", 32)), "associated_data": enginetest.Encoded(reserved)}
		m.Refused(400, "associated_data is reserved", enginetest.Update, enginetest.TenantPath("/encrypt"), data)
		data["associated_data"] = enginetest.Encoded(reserved)[:8] + "\n" + enginetest.Encoded(reserved)[8:]
		m.Refused(400, "associated_data is reserved", enginetest.Update, enginetest.TenantPath("/encrypt"), data)
		status, results, _ := httpAnswer(m, "/encrypt", map[string]any{"batch_input": []any{data}})
		require.Equal(t, 400, status)
		require.Contains(t, results[0]["error"], "reserved")
		require.Empty(t, results[0]["ciphertext"])
		for _, bits := range []int{128, 512} {
			m.Refused(400, "bits must be 256", enginetest.Update, enginetest.TenantPath("/datakey/plaintext"), map[string]any{"bits": bits, "associated_data": enginetest.Encoded(reserved)})
			m.Refused(400, "bits must be 256", enginetest.Update, enginetest.TenantPath("/datakey/wrapped"), map[string]any{"bits": bits, "associated_data": enginetest.Encoded(reserved)})
		}
	}
	require.Empty(t, externalKeys(m), "a refused request has made a key")
	m.OpensTo("x", m.Encrypted(enginetest.TenantID, "x", envelopeKeyAD+" "), envelopeKeyAD+" ")

	// A ciphertext of a caller's, in the place of a data key.
	text, keyText := envelope(m, "hello", "")
	chosen := strings.TrimPrefix(m.Encrypted(enginetest.TenantID, strings.Repeat("k", 32)), "dek:v1:")
	m.Refused(400, "does not open", enginetest.Update, enginetest.TenantPath("/decrypt"),
		map[string]any{"ciphertext": strings.Replace(text, strings.TrimPrefix(keyText, "dek:v1:"), chosen, 1)})
}

// Of a file only the first line comes here. Its data key stays, so that the rest of
// the file does.
func TestFirstLineOfAFileIsRewrapped(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := enginetest.NewMount(t)
		defer m.Close()
		m.Must(enginetest.Update, enginetest.TenantPath(""), nil)
		answer := m.Must(enginetest.Update, enginetest.TenantPath("/datakey/plaintext"), map[string]any{"associated_data": enginetest.Encoded(fileKeyAD)})
		line := "dek:v1:s1." + strings.TrimPrefix(answer["ciphertext"].(string), "dek:v1:") + "\n"
		m.Rotated(nil)
		rewrapped := m.Must(enginetest.Update, enginetest.TenantPath("/rewrap"), map[string]any{"ciphertext": line})
		text := rewrapped["ciphertext"].(string)
		require.Equal(t, true, rewrapped["changed"])
		require.True(t, strings.HasPrefix(text, "dek:v2:s1."), text)
		opened := m.Must(enginetest.Update, enginetest.TenantPath("/decrypt"), map[string]any{
			"ciphertext": strings.Replace(text, "s1.", "", 1), "associated_data": enginetest.Encoded(fileKeyAD),
		})
		require.Equal(t, answer["plaintext"], opened["plaintext"])

		m.Refused(400, "first line of a file", enginetest.Update, enginetest.TenantPath("/decrypt"), map[string]any{"ciphertext": text})
		m.Refused(400, "must be left out", enginetest.Update, enginetest.TenantPath("/rewrap"), map[string]any{"ciphertext": text, "associated_data": enginetest.Encoded("x")})
		// The key of an envelope is none of a file, nor the other way round.
		_, keyText := envelope(m, "", "")
		m.Refused(400, "does not open", enginetest.Update, enginetest.TenantPath("/rewrap"), map[string]any{"ciphertext": strings.Replace(keyText, "dek:v2:", "dek:v2:s1.", 1)})
		m.Refused(400, "does not open", enginetest.Update, enginetest.TenantPath("/decrypt"), map[string]any{"ciphertext": strings.Replace(text, "s1.", "e1.", 1) + ".AAAA"})
	})
}

// An envelope keeps the rules of versions.
func TestEnvelopesOfVersionsThatDoNotOpen(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := enginetest.NewMount(t)
		defer m.Close()
		m.Must(enginetest.Update, enginetest.TenantPath(""), nil)
		m.Must(enginetest.Update, "tenants/"+enginetest.OtherTenant, nil)
		text, _ := envelope(m, "hello", "")
		m.Encrypted(enginetest.OtherTenant, "x")
		m.Refused(400, "does not open", enginetest.Update, "tenants/"+enginetest.OtherTenant+"/decrypt", map[string]any{"ciphertext": text})
		m.Refused(400, "does not have", enginetest.Update, enginetest.TenantPath("/decrypt"), map[string]any{"ciphertext": strings.Replace(text, "v1", "v2", 1)})
		m.Rotated(nil)
		m.Must(enginetest.Update, enginetest.TenantPath("/dek/config"), map[string]any{"min_decryption_version": 2})
		m.Refused(400, "below min_decryption_version", enginetest.Update, enginetest.TenantPath("/decrypt"), map[string]any{"ciphertext": text})
		m.Must(enginetest.Update, enginetest.TenantPath("/dek/versions/1/destroy"), map[string]any{"force": true})
		m.Refused(400, "destroyed", enginetest.Update, enginetest.TenantPath("/rewrap"), map[string]any{"ciphertext": text})
	})
}
