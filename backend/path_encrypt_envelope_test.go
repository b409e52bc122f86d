// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package backend

import (
	"encoding/base64"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/require"

	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/keyring/keyringtest"
)

// The associated data of data keys, as clients send them.
const (
	envelopeKeyAD = "vault-plugin-dek/data-key/v1"
	fileKeyAD     = "vault-plugin-dek/file-key/v1"
)

// envelope seals a text as a client does, and returns it with its data key.
func (m *mount) envelope(plaintext, ad string) (text, keyText string) {
	m.t.Helper()
	answer := m.must(update, tenantPath("/datakey/plaintext"), map[string]any{"associated_data": encoded(envelopeKeyAD)})
	key, err := base64.StdEncoding.DecodeString(answer["plaintext"].(string))
	require.NoError(m.t, err)
	keyText = answer["ciphertext"].(string)
	content, err := keyringtest.Seal("xaes256-gcm", key, []byte("a nonce of 24 bytes, x24"), []byte(plaintext),
		keyringtest.AssociatedData("vault-plugin-dek/envelope/v1", keyText, ad))
	require.NoError(m.t, err)
	head, sealed := keyText[:strings.LastIndexByte(keyText, ':')+1], keyText[strings.LastIndexByte(keyText, ':')+1:]
	return head + "e1." + sealed + "." + base64.StdEncoding.EncodeToString(content), keyText
}

// opensAsAClient opens an envelope as a client does, which asks for the data key.
func (m *mount) opensAsAClient(plaintext, text, ad string) {
	m.t.Helper()
	head, body := text[:strings.LastIndexByte(text, ':')+1], text[strings.LastIndexByte(text, ':')+1:]
	parts := strings.Split(body, ".")
	require.Len(m.t, parts, 3)
	require.Equal(m.t, "e1", parts[0])
	answer := m.must(update, tenantPath("/decrypt"), map[string]any{"ciphertext": head + parts[1], "associated_data": encoded(envelopeKeyAD)})
	key, err := base64.StdEncoding.DecodeString(answer["plaintext"].(string))
	require.NoError(m.t, err)
	content, err := base64.StdEncoding.DecodeString(parts[2])
	require.NoError(m.t, err)
	opened, err := keyringtest.Open("xaes256-gcm", key, content, keyringtest.AssociatedData("vault-plugin-dek/envelope/v1", head+parts[1], ad))
	require.NoError(m.t, err)
	require.Equal(m.t, plaintext, string(opened))
}

func TestEnvelopesOpenAndAreRewrapped(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMount(t)
		defer m.close()
		m.must(update, tenantPath(""), nil)
		old, oldKey := m.envelope("hello", "row 7")
		bare, _ := m.envelope("", "")
		m.opensTo("hello", old, "row 7")
		m.opensTo("", bare)
		m.rotated(map[string]any{"key_type": "aes256-gcm"})
		m.opensTo("hello", old, "row 7")

		data := map[string]any{"ciphertext": old, "associated_data": encoded("row 7"), "only_if_older": true}
		answer := m.must(update, tenantPath("/rewrap"), data)
		require.Equal(t, true, answer["changed"])
		require.Equal(t, 2, answer["key_version"])
		text := answer["ciphertext"].(string)
		require.True(t, strings.HasPrefix(text, "dek:v2:e1."), text)
		require.NotContains(t, text, strings.TrimPrefix(oldKey, "dek:v1:"))
		m.opensTo("hello", text, "row 7")
		m.opensAsAClient("hello", text, "row 7")

		data["ciphertext"] = text
		answer = m.must(update, tenantPath("/rewrap"), data)
		require.Equal(t, map[string]any{"ciphertext": text, "changed": false, "key_version": 2}, answer)

		for _, path := range []string{"/decrypt", "/rewrap"} {
			m.refused(400, "does not open", update, tenantPath(path), map[string]any{"ciphertext": text})
			m.refused(400, "does not open", update, tenantPath(path), map[string]any{"ciphertext": strings.Replace(text, "v2", "v1", 1), "associated_data": encoded("row 7")})
			m.refused(400, "malformed", update, tenantPath(path), map[string]any{"ciphertext": text[:30] + "\n" + text[30:], "associated_data": encoded("row 7")})
		}
	})
}

// What rewrap makes of many envelopes at once shares a data key: so a client asks
// for one.
func TestEnvelopesOfABatchShareADataKey(t *testing.T) {
	m := withTenant(t)
	one, _ := m.envelope("one", "a")
	two, _ := m.envelope("two", "b")
	status, results, _ := m.httpAnswer("/rewrap", map[string]any{"batch_input": []any{
		map[string]any{"ciphertext": one, "associated_data": encoded("a")},
		map[string]any{"ciphertext": two, "associated_data": encoded("a")},
		map[string]any{"ciphertext": two, "associated_data": encoded("b")},
	}})
	require.Equal(t, 400, status)
	require.Contains(t, results[1]["error"], "does not open")
	first, second := results[0]["ciphertext"].(string), results[2]["ciphertext"].(string)
	m.opensAsAClient("one", first, "a")
	m.opensAsAClient("two", second, "b")
	require.Equal(t, strings.Split(first, ".")[1], strings.Split(second, ".")[1])
}

// Nothing that a caller chose passes for a data key.
func TestAssociatedDataOfDataKeysAreReserved(t *testing.T) {
	m := withTenant(t)
	for _, reserved := range []string{envelopeKeyAD, fileKeyAD} {
		data := map[string]any{"plaintext": encoded(strings.Repeat("k", 32)), "associated_data": encoded(reserved)}
		m.refused(400, "associated_data is reserved", update, tenantPath("/encrypt"), data)
		data["associated_data"] = encoded(reserved)[:8] + "\n" + encoded(reserved)[8:]
		m.refused(400, "associated_data is reserved", update, tenantPath("/encrypt"), data)
		status, results, _ := m.httpAnswer("/encrypt", map[string]any{"batch_input": []any{data}})
		require.Equal(t, 400, status)
		require.Contains(t, results[0]["error"], "reserved")
		require.Empty(t, results[0]["ciphertext"])
		for _, bits := range []int{128, 512} {
			m.refused(400, "bits must be 256", update, tenantPath("/datakey/plaintext"), map[string]any{"bits": bits, "associated_data": encoded(reserved)})
			m.refused(400, "bits must be 256", update, tenantPath("/datakey/wrapped"), map[string]any{"bits": bits, "associated_data": encoded(reserved)})
		}
	}
	require.Empty(t, m.externalKeys(), "a refused request has made a key")
	m.opensTo("x", m.encrypted(testTenant, "x", envelopeKeyAD+" "), envelopeKeyAD+" ")

	// A ciphertext of a caller's, in the place of a data key.
	text, keyText := m.envelope("hello", "")
	chosen := strings.TrimPrefix(m.encrypted(testTenant, strings.Repeat("k", 32)), "dek:v1:")
	m.refused(400, "does not open", update, tenantPath("/decrypt"),
		map[string]any{"ciphertext": strings.Replace(text, strings.TrimPrefix(keyText, "dek:v1:"), chosen, 1)})
}

// Of a file only the first line comes here. Its data key stays, so that the rest of
// the file does.
func TestFirstLineOfAFileIsRewrapped(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMount(t)
		defer m.close()
		m.must(update, tenantPath(""), nil)
		answer := m.must(update, tenantPath("/datakey/plaintext"), map[string]any{"associated_data": encoded(fileKeyAD)})
		line := "dek:v1:s1." + strings.TrimPrefix(answer["ciphertext"].(string), "dek:v1:") + "\n"
		m.rotated(nil)
		rewrapped := m.must(update, tenantPath("/rewrap"), map[string]any{"ciphertext": line})
		text := rewrapped["ciphertext"].(string)
		require.Equal(t, true, rewrapped["changed"])
		require.True(t, strings.HasPrefix(text, "dek:v2:s1."), text)
		opened := m.must(update, tenantPath("/decrypt"), map[string]any{
			"ciphertext": strings.Replace(text, "s1.", "", 1), "associated_data": encoded(fileKeyAD),
		})
		require.Equal(t, answer["plaintext"], opened["plaintext"])

		m.refused(400, "first line of a file", update, tenantPath("/decrypt"), map[string]any{"ciphertext": text})
		m.refused(400, "must be left out", update, tenantPath("/rewrap"), map[string]any{"ciphertext": text, "associated_data": encoded("x")})
		// The key of an envelope is none of a file, nor the other way round.
		_, keyText := m.envelope("", "")
		m.refused(400, "does not open", update, tenantPath("/rewrap"), map[string]any{"ciphertext": strings.Replace(keyText, "dek:v2:", "dek:v2:s1.", 1)})
		m.refused(400, "does not open", update, tenantPath("/decrypt"), map[string]any{"ciphertext": strings.Replace(text, "s1.", "e1.", 1) + ".AAAA"})
	})
}

// An envelope keeps the rules of versions.
func TestEnvelopesOfVersionsThatDoNotOpen(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMount(t)
		defer m.close()
		m.must(update, tenantPath(""), nil)
		m.must(update, "tenants/"+otherTenant, nil)
		text, _ := m.envelope("hello", "")
		m.encrypted(otherTenant, "x")
		m.refused(400, "does not open", update, "tenants/"+otherTenant+"/decrypt", map[string]any{"ciphertext": text})
		m.refused(400, "does not have", update, tenantPath("/decrypt"), map[string]any{"ciphertext": strings.Replace(text, "v1", "v2", 1)})
		m.rotated(nil)
		m.must(update, tenantPath("/dek/config"), map[string]any{"min_decryption_version": 2})
		m.refused(400, "below min_decryption_version", update, tenantPath("/decrypt"), map[string]any{"ciphertext": text})
		m.must(update, tenantPath("/dek/versions/1/destroy"), map[string]any{"force": true})
		m.refused(400, "destroyed", update, tenantPath("/rewrap"), map[string]any{"ciphertext": text})
	})
}
