// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package keyring

import (
	"encoding/hex"
	"encoding/json"
	"os"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/keyring/keyringtest"
)

// hexBytes are bytes that a file of vectors has in hex.
type hexBytes []byte

func (h *hexBytes) UnmarshalText(text []byte) (err error) {
	*h, err = hex.DecodeString(string(text))
	return err
}

// fromFile decodes testdata.
func fromFile(t testing.TB, name string, into any) {
	t.Helper()
	text, err := os.ReadFile("testdata/" + name)
	require.NoError(t, err)
	require.NoError(t, json.Unmarshal(text, into))
}

// The vectors were made by a third implementation, in another language.
func TestCiphertextVectors(t *testing.T) {
	var vectors []struct {
		KeyType     KeyType  `json:"key_type"`
		Key         hexBytes `json:"key"`
		Nonce       hexBytes `json:"nonce"`
		Tenant      string   `json:"tenant_id"`
		Incarnation string   `json:"incarnation"`
		KeyID       string   `json:"key_id"`
		Version     int      `json:"version"`
		AD          []byte   `json:"associated_data"` // in base64, as callers have it
		Plaintext   []byte   `json:"plaintext"`
		Ciphertext  string   `json:"ciphertext"`
	}
	fromFile(t, "ciphertexts.json", &vectors)
	require.Len(t, vectors, 10)
	for _, v := range vectors {
		refAD := keyringtest.AssociatedData("vault-plugin-dek/ciphertext/v1", v.Tenant, v.Incarnation, v.KeyID, string(v.AD))
		ad := CiphertextAD(v.Tenant, v.Incarnation, v.KeyID, v.AD)
		require.Equal(t, refAD, ad)

		sealed, err := keyringtest.Seal(string(v.KeyType), v.Key, v.Nonce, v.Plaintext, refAD)
		require.NoError(t, err)
		require.Equal(t, v.Ciphertext, Ciphertext{v.Version, sealed}.String())

		c, err := ParseCiphertext(v.Ciphertext)
		require.NoError(t, err)
		require.Equal(t, Ciphertext{v.Version, sealed}, c)
		a, err := NewAEAD(v.KeyType, v.Key)
		require.NoError(t, err)
		opened, err := a.Open(c.Sealed, ad)
		require.NoError(t, err)
		require.Equal(t, string(v.Plaintext), string(opened))

		fresh, err := a.Seal(v.Plaintext, ad)
		require.NoError(t, err)
		require.Len(t, fresh, len(sealed))
		opened, err = keyringtest.Open(string(v.KeyType), v.Key, fresh, refAD)
		require.NoError(t, err)
		require.Equal(t, string(v.Plaintext), string(opened))
	}
}

// Wycheproof's vectors for AES-GCM, of the sizes that are in use here.
func TestWycheproof(t *testing.T) {
	var file struct {
		Tests []struct {
			ID      int      `json:"tcId"`
			Comment string   `json:"comment"`
			Key     hexBytes `json:"key"`
			IV      hexBytes `json:"iv"`
			AD      hexBytes `json:"aad"`
			Message hexBytes `json:"msg"`
			Text    hexBytes `json:"ct"`
			Tag     hexBytes `json:"tag"`
			Result  string   `json:"result"`
		} `json:"tests"`
	}
	fromFile(t, "wycheproof_aes256_gcm.json", &file)
	require.Len(t, file.Tests, 66)
	for _, c := range file.Tests {
		a, err := NewAEAD(AES256GCM, c.Key)
		require.NoError(t, err)
		sealed := append(append(append([]byte(nil), c.IV...), c.Text...), c.Tag...)
		opened, err := a.Open(sealed, c.AD)
		if c.Result == "valid" {
			require.NoError(t, err, "test %d, %s", c.ID, c.Comment)
			require.Equal(t, string(c.Message), string(opened), "test %d, %s", c.ID, c.Comment)
		} else {
			require.ErrorIs(t, err, ErrOpen, "test %d, %s", c.ID, c.Comment)
		}
	}
}

// The reference is not left to itself: it opens the specification's vectors.
func TestReferenceOpensTheSpecificationsVectors(t *testing.T) {
	sealed, err := hex.DecodeString("986ec1832593df5443a179437fd083bf3fdb41abd740a21f71eb769d")
	require.NoError(t, err)
	key := make([]byte, KeySize)
	for i := range key {
		key[i] = 3
	}
	opened, err := keyringtest.Open("xaes256-gcm", key, append([]byte("ABCDEFGHIJKLMNOPQRSTUVWX"), sealed...), []byte("c2sp.org/XAES-256-GCM"))
	require.NoError(t, err)
	require.Equal(t, "XAES-256-GCM", string(opened))
}
