// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package encryption_test

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/encryption"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/keyring"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/storagetest"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/tenant"
)

// refused is a text that does not open, and why.
type refused struct {
	text, ad string
	err      error
	says     string
}

// refusedTexts are texts, made by a tenant of four versions, that do not open.
func refusedTexts(p *process) map[string]refused {
	destroyed := p.seal(someTenant, "x", "ad")
	p.rotate(someTenant, keyring.XAES256GCM)
	below := p.seal(someTenant, "x", "ad")
	p.rotate(someTenant, keyring.XAES256GCM)
	good := p.seal(someTenant, "x", "ad")
	p.rotate(someTenant, keyring.XAES256GCM) // has sealed nothing
	foreign := p.seal(otherTenant, "x", "ad")
	p.change(someTenant, func(t *tenant.Record) {
		t.Keys.Find(1).State = keyring.Destroyed
		t.MinDecryptionVersion = 3
	})
	return map[string]refused{
		"destroyed":           {destroyed, "ad", encryption.ErrVersionDestroyed, "ciphertext is of version 1 of the tenant's key, which was destroyed"},
		"below the minimum":   {below, "ad", encryption.ErrBelowMinimum, "ciphertext is of version 2 of the tenant's key, below min_decryption_version, which is 3"},
		"unknown":             {strings.Replace(good, "v3", "v5", 1), "ad", encryption.ErrUnknownVersion, "ciphertext is of version 5, which the tenant's key does not have"},
		"under another key":   {strings.Replace(good, "v3", "v4", 1), "ad", encryption.ErrDoesNotOpen, "ciphertext does not open"},
		"another tenant's":    {strings.Replace(foreign, "v1", "v3", 1), "ad", encryption.ErrDoesNotOpen, "ciphertext does not open"},
		"other associated":    {good, "other", encryption.ErrDoesNotOpen, "ciphertext does not open"},
		"empty":               {"", "ad", encryption.ErrMalformed, "ciphertext is malformed"},
		"transit's":           {"vault:v1:AAAA", "ad", encryption.ErrMalformed, "ciphertext is malformed"},
		"version 0":           {"dek:v0:AAAA", "ad", encryption.ErrMalformed, "ciphertext is malformed: its version must be a whole number from 1, in digits, without leading zeros"},
		"nothing behind it":   {"dek:v3:", "ad", encryption.ErrDoesNotOpen, "ciphertext does not open"},
		"a line break inside": {good[:20] + "\n" + good[20:], "ad", encryption.ErrMalformed, "line breaks"},
	}
}

func TestTextsAreRefusedOneByOne(t *testing.T) {
	p := withTenants(t)
	for name, c := range refusedTexts(p) {
		t.Run(name, func(t *testing.T) {
			good := p.seal(someTenant, "good", "")
			texts := []encryption.Ciphertext{{Text: good}, {Text: c.text, AssociatedData: []byte(c.ad)}, {Text: good}}
			opened, err := p.Open(t.Context(), someTenant, texts)
			require.NoError(t, err)
			rewrapped, err := p.Rewrap(t.Context(), someTenant, texts)
			require.NoError(t, err)
			for i := range texts {
				if i != 1 {
					require.Equal(t, encryption.Opened{Plaintext: []byte("good")}, opened[i])
					p.opensTo("good", someTenant, rewrapped[i].Text, "")
					continue
				}
				require.ErrorIs(t, opened[i].Err, c.err)
				require.ErrorContains(t, opened[i].Err, c.says)
				require.Nil(t, opened[i].Plaintext)
				require.Equal(t, encryption.Sealed{Err: rewrapped[i].Err}, rewrapped[i])
				require.ErrorIs(t, rewrapped[i].Err, c.err)
			}
		})
	}
}

// Trouble with storage or with the KEK is a fault of the whole request, and no
// word about a text.
func TestFaultsAreNoRefusals(t *testing.T) {
	p := withTenants(t)
	text := p.seal(someTenant, "x", "")
	for name, harm := range map[string]func(*process){
		"storage": func(p *process) { p.storage.Outage(storagetest.ErrInjected, true) },
		"the KEK is missing": func(p *process) {
			for _, key := range p.disk.Keys("kek/keys/") {
				p.disk.Set(key, nil)
			}
		},
		"the key does not open": func(p *process) {
			for _, key := range p.externalKeys() {
				p.disk.Set(key, []byte{1})
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			again := start(t, p.disk.Clone())
			harm(again)
			before := again.disk.Clone()
			texts := []encryption.Ciphertext{{Text: text}}
			opened, err := again.Open(t.Context(), someTenant, texts)
			require.Error(t, err)
			require.False(t, encryption.Refused(err), "%v", err)
			require.Nil(t, opened)
			sealed, err := again.Rewrap(t.Context(), someTenant, texts)
			require.Error(t, err)
			require.Nil(t, sealed)
			_, err = again.Seal(t.Context(), someTenant, []encryption.Plaintext{{}})
			require.Error(t, err)
			require.Equal(t, before, again.disk.Clone(), "a key was made in place of one that is there")
		})
	}
}

func TestRewrapKeepsTheAssociatedData(t *testing.T) {
	p := withTenants(t)
	old := p.seal(someTenant, "x", "ad")
	p.rotate(someTenant, keyring.AES256GCM)
	sealed, err := p.Rewrap(t.Context(), someTenant, []encryption.Ciphertext{{Text: old, AssociatedData: []byte("ad")}})
	require.NoError(t, err)
	require.Equal(t, 2, sealed[0].Version)
	p.opensTo("x", someTenant, sealed[0].Text, "ad")
	_, err = p.open(someTenant, sealed[0].Text, "")
	require.ErrorIs(t, err, encryption.ErrDoesNotOpen)
}
