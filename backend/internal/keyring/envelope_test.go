// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package keyring

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/keyring/keyringtest"
)

// dataKeyVector is a data key, and the external key of the version that sealed it.
type dataKeyVector struct {
	KeyType     KeyType  `json:"key_type"`
	ExternalKey hexBytes `json:"external_key"`
	Tenant      string   `json:"tenant_id"`
	Incarnation string   `json:"incarnation"`
	KeyID       string   `json:"key_id"`
	Version     int      `json:"version"`
	DataKey     hexBytes `json:"data_key"`
	Key         string   `json:"key"` // the data key, sealed, in base64
}

// open opens the data key as the engine does, with its reserved associated data.
func (v dataKeyVector) open(t *testing.T, sealed []byte, reserved string) []byte {
	t.Helper()
	external, err := NewAEAD(v.KeyType, v.ExternalKey)
	require.NoError(t, err)
	key, err := external.Open(sealed, CiphertextAD(v.Tenant, v.Incarnation, v.KeyID, []byte(reserved)))
	require.NoError(t, err)
	return key
}

// envelopeVectors were made by another implementation, in another language. Clients
// of the engine use the same.
type envelopeVectors struct {
	Envelopes []struct {
		dataKeyVector
		Nonce     hexBytes `json:"nonce"`
		AD        []byte   `json:"associated_data"`
		Plaintext []byte   `json:"plaintext"`
		Envelope  string   `json:"envelope"`
	} `json:"envelopes"`
	Files []struct {
		dataKeyVector
		FirstLine string `json:"first_line"`
	} `json:"files"`
	Refused []struct {
		dataKeyVector
		Comment  string `json:"comment"`
		AD       []byte `json:"associated_data"`
		Envelope string `json:"envelope"`
	} `json:"refused"`
	Malformed []struct {
		Comment string `json:"comment"`
		Text    string `json:"text"`
	} `json:"malformed"`
}

func readEnvelopeVectors(t testing.TB) (v envelopeVectors) {
	t.Helper()
	fromFile(t, "envelopes.json", &v)
	require.Len(t, v.Envelopes, 8)
	require.Len(t, v.Files, 2)
	require.Len(t, v.Refused, 13)
	require.Len(t, v.Malformed, 21)
	return v
}

func TestEnvelopeVectors(t *testing.T) {
	for _, v := range readEnvelopeVectors(t).Envelopes {
		text, err := ParseText(v.Envelope)
		require.NoError(t, err)
		require.Equal(t, FormEnvelope, text.Form)
		require.Equal(t, v.Version, text.Ciphertext.Version)
		require.Equal(t, v.Envelope, text.String())

		key := v.open(t, text.Ciphertext.Sealed, EnvelopeKeyAD)
		require.Equal(t, []byte(v.DataKey), key)
		dataKey, err := DataKeyAEAD(key)
		require.NoError(t, err)
		opened, err := OpenEnvelope(dataKey, text, v.AD)
		require.NoError(t, err)
		require.Equal(t, string(v.Plaintext), string(opened))

		refAD := keyringtest.AssociatedData("vault-plugin-dek/envelope/v1", text.Ciphertext.String(), string(v.AD))
		content, err := keyringtest.Seal("xaes256-gcm", v.DataKey, v.Nonce, v.Plaintext, refAD)
		require.NoError(t, err)
		require.Equal(t, content, text.Content)

		fresh, err := SealEnvelope(dataKey, text.Ciphertext, v.Plaintext, v.AD)
		require.NoError(t, err)
		require.NotEqual(t, text, fresh, "a nonce was used twice")
		opened, err = keyringtest.Open("xaes256-gcm", v.DataKey, fresh.Content, refAD)
		require.NoError(t, err)
		require.Equal(t, string(v.Plaintext), string(opened))
	}
}

func TestFileKeyVectors(t *testing.T) {
	for _, v := range readEnvelopeVectors(t).Files {
		text, err := ParseText(v.FirstLine)
		require.NoError(t, err)
		require.Equal(t, FormFile, text.Form)
		require.Equal(t, v.Version, text.Ciphertext.Version)
		require.Equal(t, v.FirstLine, text.String())
		require.Equal(t, []byte(v.DataKey), v.open(t, text.Ciphertext.Sealed, FileKeyAD))
	}
}

func TestEnvelopesThatDoNotOpen(t *testing.T) {
	for _, v := range readEnvelopeVectors(t).Refused {
		text, err := ParseText(v.Envelope)
		require.NoError(t, err, v.Comment)
		dataKey, err := DataKeyAEAD(v.DataKey)
		require.NoError(t, err)
		opened, err := OpenEnvelope(dataKey, text, v.AD)
		require.ErrorIs(t, err, ErrOpen, v.Comment)
		require.Nil(t, opened)
	}
}

func TestMalformedTexts(t *testing.T) {
	for _, v := range readEnvelopeVectors(t).Malformed {
		_, err := ParseText(v.Text)
		require.ErrorIs(t, err, ErrCiphertext, v.Comment)
	}
	for name, text := range malformed {
		_, err := ParseText(text)
		require.ErrorIs(t, err, ErrCiphertext, name)
	}
}

// A ciphertext of the engine is a text too, and no text is two things.
func TestTextOfTheEngine(t *testing.T) {
	text, err := ParseText("dek:v2:AAE=")
	require.NoError(t, err)
	require.Equal(t, Text{Ciphertext: Ciphertext{2, []byte{0, 1}}}, text)
	require.Equal(t, "dek:v2:AAE=", text.String())
	_, err = ParseCiphertext("dek:v2:e1.AAAA.AAAA")
	require.ErrorIs(t, err, ErrCiphertext)
}

func TestOnlyDataKeysHaveTheirAssociatedData(t *testing.T) {
	for text, reserved := range map[string]bool{
		"vault-plugin-dek/data-key/v1": true, "vault-plugin-dek/file-key/v1": true,
		"": false, "vault-plugin-dek/data-key/v1 ": false, "vault-plugin-dek/data-key/v10": false, "Vault-plugin-dek/data-key/v1": false,
	} {
		require.Equal(t, reserved, IsReserved([]byte(text)), text)
	}
}

// FuzzParseText: what parses is the only text of its value.
func FuzzParseText(f *testing.F) {
	v := readEnvelopeVectors(f)
	for _, e := range v.Envelopes {
		f.Add(e.Envelope)
	}
	for _, file := range v.Files {
		f.Add(file.FirstLine)
	}
	for _, m := range v.Malformed {
		f.Add(m.Text)
	}
	f.Add("dek:v1:AAEC")
	f.Fuzz(func(t *testing.T, s string) {
		text, err := ParseText(s)
		if err != nil {
			require.ErrorIs(t, err, ErrCiphertext)
			require.Equal(t, Text{}, text)
			return
		}
		require.Equal(t, s, text.String())
	})
}
