// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package encryption_test

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/encryption"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/keyring"
)

// envelope seals a text as a client does.
func (p *process) envelope(plaintext, ad string) string {
	p.t.Helper()
	key, err := p.DataKey(p.t.Context(), someTenant, 32, []byte(keyring.EnvelopeKeyAD))
	require.NoError(p.t, err)
	return p.envelopeUnder(key.Key, key.Sealed.Text, plaintext, ad)
}

func (p *process) envelopeUnder(key []byte, keyText, plaintext, ad string) string {
	p.t.Helper()
	dataKey, err := keyring.DataKeyAEAD(key)
	require.NoError(p.t, err)
	c, err := keyring.ParseCiphertext(keyText)
	require.NoError(p.t, err)
	text, err := keyring.SealEnvelope(dataKey, c, []byte(plaintext), []byte(ad))
	require.NoError(p.t, err)
	return text.String()
}

// sealAnything seals as the engine sealed before associated data were reserved.
func (p *process) sealAnything(plaintext, ad string) string {
	p.t.Helper()
	t, err := p.tenants.Active(p.t.Context(), someTenant)
	require.NoError(p.t, err)
	v := t.Keys.Active()
	key, err := p.keys.ExternalKey(p.t.Context(), t.Owner(), v)
	require.NoError(p.t, err)
	sealed, err := key.Seal([]byte(plaintext), keyring.CiphertextAD(t.ID, t.Incarnation, v.KeyID, []byte(ad)))
	require.NoError(p.t, err)
	return keyring.Ciphertext{Version: v.Number, Sealed: sealed}.String()
}

func TestRewrapBringsEveryFormToTheActiveVersion(t *testing.T) {
	p := withTenants(t)
	fileKey, err := p.DataKey(t.Context(), someTenant, 32, []byte(keyring.FileKeyAD))
	require.NoError(t, err)
	texts := []encryption.Ciphertext{
		{Text: p.seal(someTenant, "direct", "ad"), AssociatedData: []byte("ad")},
		{Text: p.envelope("sealed", "ad"), AssociatedData: []byte("ad")},
		{Text: strings.Replace(fileKey.Sealed.Text, ":v1:", ":v1:s1.", 1)},
	}
	for round, keyType := range []keyring.KeyType{keyring.AES256GCM, keyring.XAES256GCM} {
		p.rotate(someTenant, keyType)
		results, err := start(t, p.disk).Rewrap(t.Context(), someTenant, texts)
		require.NoError(t, err)
		for i, r := range results {
			require.NoError(t, r.Err)
			require.True(t, r.Changed)
			require.Equal(t, round+2, r.Version)
			before, err := keyring.ParseText(texts[i].Text)
			require.NoError(t, err)
			after, err := keyring.ParseText(r.Text)
			require.NoError(t, err)
			require.Equal(t, before.Form, after.Form)
			require.Equal(t, round+2, after.Ciphertext.Version)
			texts[i].Text, texts[i].OnlyIfOlder = r.Text, true
		}
		again, err := p.Rewrap(t.Context(), someTenant, texts)
		require.NoError(t, err)
		for i, r := range again {
			require.Equal(t, encryption.Sealed{Text: texts[i].Text, Version: round + 2}, r)
		}
	}
	p.opensTo("direct", someTenant, texts[0].Text, "ad")
	p.opensTo("sealed", someTenant, texts[1].Text, "ad")
	p.opensTo(string(fileKey.Key), someTenant, strings.Replace(texts[2].Text, "s1.", "", 1), keyring.FileKeyAD)
}

// Rewrap makes no key if nothing is sealed by it.
func TestRewrapOfWhatIsCurrentSealsNothing(t *testing.T) {
	p := withTenants(t)
	text := p.envelope("x", "")
	ops := len(p.storage.Log())
	for _, c := range []encryption.Ciphertext{{Text: text, OnlyIfOlder: true}, {Text: "dek:v1:AAAA"}} {
		_, err := p.Rewrap(t.Context(), someTenant, []encryption.Ciphertext{c})
		require.NoError(t, err)
	}
	require.Len(t, p.storage.Log(), ops)
	p.rotate(someTenant, keyring.DefaultKeyType)
	_, err := p.Rewrap(t.Context(), someTenant, []encryption.Ciphertext{{Text: "dek:v1:AAAA"}})
	require.NoError(t, err)
	require.Len(t, p.externalKeys(), 1)
}

// A key of another size, sealed before the associated data were reserved, is no data
// key.
func TestDataKeysOfOtherSizes(t *testing.T) {
	p := withTenants(t)
	good := p.envelope("x", "")
	_, content, _ := strings.Cut(strings.TrimPrefix(good, "dek:v1:e1."), ".")
	for _, size := range []int{0, 16, 31, 33, 64} {
		envelopeKey := p.sealAnything(strings.Repeat("k", size), keyring.EnvelopeKeyAD)
		fileKey := p.sealAnything(strings.Repeat("k", size), keyring.FileKeyAD)
		for _, text := range []string{
			strings.Replace(envelopeKey, ":v1:", ":v1:e1.", 1) + "." + content,
			strings.Replace(fileKey, ":v1:", ":v1:s1.", 1),
		} {
			results, err := p.Rewrap(t.Context(), someTenant, []encryption.Ciphertext{{Text: text}})
			require.NoError(t, err)
			require.ErrorIs(t, results[0].Err, encryption.ErrDoesNotOpen)
		}
	}
}

// A data key under other associated data is none of an envelope.
func TestEnvelopeWhoseKeyHasOtherAssociatedData(t *testing.T) {
	p := withTenants(t)
	for _, ad := range []string{"", "ad", keyring.FileKeyAD, keyring.EnvelopeKeyAD + "0"} {
		key, err := p.DataKey(t.Context(), someTenant, 32, []byte(ad))
		require.NoError(t, err)
		_, refusal := p.open(someTenant, p.envelopeUnder(key.Key, key.Sealed.Text, "x", ad), ad)
		require.ErrorIs(t, refusal, encryption.ErrDoesNotOpen)
	}
}

// Vault takes strings of 1 MiB. What is as long and grows would be lost to callers
// that only have decrypt.
func TestEnvelopeThatWouldGrowBeyondWhatVaultTakes(t *testing.T) {
	p := withTenants(t)
	p.rotate(someTenant, keyring.AES256GCM)
	overhead := len(p.envelope("", "")) - 56 // of which 40 bytes are nonce and tag
	most := (1<<20-overhead)/4*3 - 40
	long := p.envelope(strings.Repeat("x", most), "")
	require.LessOrEqual(t, len(long), 1<<20)
	p.rotate(someTenant, keyring.XAES256GCM) // its ciphertexts are longer
	results, err := p.Rewrap(t.Context(), someTenant, []encryption.Ciphertext{{Text: long}, {Text: p.envelope("x", "")}})
	require.NoError(t, err)
	require.ErrorIs(t, results[0].Err, encryption.ErrTooLong)
	require.NoError(t, results[1].Err)
	opened, refusal := p.open(someTenant, long, "")
	require.NoError(t, refusal)
	require.Len(t, opened, most)
}

func TestSealRefusesReservedAssociatedData(t *testing.T) {
	p := withTenants(t)
	for _, reserved := range []string{keyring.EnvelopeKeyAD, keyring.FileKeyAD} {
		sealed, err := p.Seal(t.Context(), someTenant, []encryption.Plaintext{{AssociatedData: []byte(reserved)}})
		require.NoError(t, err)
		require.Equal(t, []encryption.Sealed{{Err: encryption.ErrReserved}}, sealed)
		_, err = p.DataKey(t.Context(), someTenant, 16, []byte(reserved))
		require.ErrorIs(t, err, encryption.ErrDataKeySize)
	}
	require.Empty(t, p.externalKeys())
	// Those that were sealed before go on being opened and rewrapped, so that a data
	// key stays one.
	p.seal(someTenant, "", "")
	text := p.sealAnything("x", keyring.EnvelopeKeyAD)
	results, err := p.Rewrap(t.Context(), someTenant, []encryption.Ciphertext{{Text: text, AssociatedData: []byte(keyring.EnvelopeKeyAD)}})
	require.NoError(t, err)
	p.opensTo("x", someTenant, results[0].Text, keyring.EnvelopeKeyAD)
}
