// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package keyring

import (
	"bytes"
	"context"
	"crypto/aes"
	"crypto/cipher"
	"encoding/hex"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestSealOpens(t *testing.T) {
	for _, kt := range []KeyType{XAES256GCM, AES256GCM} {
		t.Run(string(kt), func(t *testing.T) {
			a, err := NewAEAD(kt, NewMaterial())
			require.NoError(t, err)
			sealed, err := a.Seal([]byte("plaintext"), []byte("place"))
			require.NoError(t, err)
			require.NotContains(t, string(sealed), "plaintext")

			opened, err := a.Open(sealed, []byte("place"))
			require.NoError(t, err)
			require.Equal(t, "plaintext", string(opened))

			again, err := a.Seal([]byte("plaintext"), []byte("place"))
			require.NoError(t, err)
			require.NotEqual(t, sealed, again, "a nonce was used twice")
		})
	}
}

func TestOpenRefuses(t *testing.T) {
	for _, kt := range []KeyType{XAES256GCM, AES256GCM} {
		a, err := NewAEAD(kt, NewMaterial())
		require.NoError(t, err)
		other, err := NewAEAD(kt, NewMaterial())
		require.NoError(t, err)
		sealed, err := a.Seal([]byte("plaintext"), []byte("place"))
		require.NoError(t, err)

		flipped := bytes.Clone(sealed)
		flipped[len(flipped)/2] ^= 1
		cases := map[string]struct {
			aead           AEAD
			ciphertext, ad []byte
		}{
			"another place": {a, sealed, []byte("elsewhere")},
			"another key":   {other, sealed, []byte("place")},
			"a flipped bit": {a, flipped, []byte("place")},
			"truncated":     {a, sealed[:len(sealed)-1], []byte("place")},
			"extended":      {a, append(bytes.Clone(sealed), 0), []byte("place")},
			"nonce only":    {a, sealed[:12], []byte("place")},
			"empty":         {a, nil, []byte("place")},
		}
		for name, c := range cases {
			_, err := c.aead.Open(c.ciphertext, c.ad)
			require.ErrorIs(t, err, ErrOpen, "%s, %s", kt, name)
		}
	}
}

// The vectors of https://c2sp.org/XAES-256-GCM.
func TestXAESOpensTheSpecificationsVectors(t *testing.T) {
	for _, v := range []struct {
		key        byte
		ad, sealed string
	}{
		{0x01, "", "ce546ef63c9cc60765923609b33a9a1974e96e52daf2fcf7075e2271"},
		{0x03, "c2sp.org/XAES-256-GCM", "986ec1832593df5443a179437fd083bf3fdb41abd740a21f71eb769d"},
	} {
		a, err := NewAEAD(XAES256GCM, bytes.Repeat([]byte{v.key}, KeySize))
		require.NoError(t, err)
		sealed, err := hex.DecodeString(v.sealed)
		require.NoError(t, err)
		opened, err := a.Open(append([]byte("ABCDEFGHIJKLMNOPQRSTUVWX"), sealed...), []byte(v.ad))
		require.NoError(t, err)
		require.Equal(t, "XAES-256-GCM", string(opened))
	}
}

// The standard library opens what the AES-GCM key seals: nonce, then ciphertext
// and tag.
func TestAESGCMFormat(t *testing.T) {
	key := NewMaterial()
	a, err := NewAEAD(AES256GCM, key)
	require.NoError(t, err)
	sealed, err := a.Seal([]byte("plaintext"), []byte("place"))
	require.NoError(t, err)

	block, err := aes.NewCipher(key)
	require.NoError(t, err)
	gcm, err := cipher.NewGCM(block)
	require.NoError(t, err)
	opened, err := gcm.Open(nil, sealed[:12], sealed[12:], []byte("place"))
	require.NoError(t, err)
	require.Equal(t, "plaintext", string(opened))
}

func TestNewAEADRefuses(t *testing.T) {
	_, err := NewAEAD(XAES256GCM, make([]byte, KeySize-1))
	require.Error(t, err)
	_, err = NewAEAD("des", make([]byte, KeySize))
	require.ErrorIs(t, err, ErrKeyType)
}

func TestParseKeyType(t *testing.T) {
	for in, want := range map[string]KeyType{"": XAES256GCM, "xaes256-gcm": XAES256GCM, "aes256-gcm": AES256GCM} {
		got, err := ParseKeyType(in)
		require.NoError(t, err)
		require.Equal(t, want, got)
	}
	for _, in := range []string{"XAES256-GCM", "aes128-gcm", " "} {
		_, err := ParseKeyType(in)
		require.ErrorIs(t, err, ErrKeyType, "%q", in)
	}
}

func TestWrappedKeyOpensAtItsPlaceOnly(t *testing.T) {
	ctx := context.Background()
	kek, err := NewKEK("kek-1", NewMaterial())
	require.NoError(t, err)
	home := Binding{Owner: Owner{Tenant: "t", Incarnation: "i"}, KeyID: "k", KeyType: XAES256GCM, Purpose: PageKey}
	key := NewMaterial()
	wrapped, err := kek.Wrap(ctx, key, home)
	require.NoError(t, err)

	opened, err := kek.Unwrap(ctx, wrapped, home)
	require.NoError(t, err)
	require.Equal(t, key, opened)

	for name, b := range map[string]Binding{
		"tenant":      {Owner{"u", "i"}, "k", XAES256GCM, PageKey},
		"incarnation": {Owner{"t", "j"}, "k", XAES256GCM, PageKey},
		"key ID":      {Owner{"t", "i"}, "l", XAES256GCM, PageKey},
		"key type":    {Owner{"t", "i"}, "k", AES256GCM, PageKey},
		"purpose":     {Owner{"t", "i"}, "k", XAES256GCM, PlacementKey},
		"use outside": {Owner{"t", "i"}, "k", XAES256GCM, ExternalKey},
	} {
		_, err := kek.Unwrap(ctx, wrapped, b)
		require.ErrorIs(t, err, ErrUnwrap, "another %s", name)
	}
}

// go-kms-wrapping panics on what is shorter than a nonce.
func TestUnwrapRefusesWhatIsTooShort(t *testing.T) {
	ctx := context.Background()
	kek, err := NewKEK("kek-1", NewMaterial())
	require.NoError(t, err)
	wrapped, err := kek.Wrap(ctx, NewMaterial(), Binding{})
	require.NoError(t, err)
	for n := range minWrapped {
		_, err := kek.Unwrap(ctx, wrapped[:n], Binding{})
		require.ErrorIs(t, err, ErrUnwrap, "%d bytes", n)
	}
}

func TestAssociatedDataTellsListsApart(t *testing.T) {
	lists := [][]string{{"ab", "c"}, {"a", "bc"}, {"abc"}, {"abc", ""}, {"", "abc"}}
	seen := map[string]bool{}
	for _, l := range lists {
		ad := string(AssociatedData("label", l...))
		require.False(t, seen[ad], "%q", l)
		seen[ad] = true
	}
}

// FuzzUnwrap takes what storage may hold in place of a wrapped key. Whatever it
// is, it is refused, or it is the key.
func FuzzUnwrap(f *testing.F) {
	ctx := context.Background()
	kek, err := NewKEK("kek-1", bytes.Repeat([]byte{1}, KeySize))
	require.NoError(f, err)
	key, home := bytes.Repeat([]byte{2}, KeySize), Binding{Owner: Owner{Tenant: "t", Incarnation: "i"}, KeyID: "k", KeyType: XAES256GCM, Purpose: PageKey}
	wrapped, err := kek.Wrap(ctx, key, home)
	require.NoError(f, err)
	f.Add(wrapped)
	f.Add(wrapped[:len(wrapped)-1])
	f.Add(append(bytes.Clone(wrapped), 0))
	f.Add([]byte{})
	f.Add([]byte{0x0a, 0x00})
	f.Add(append([]byte{0x0a, minWrapped}, make([]byte, minWrapped)...))
	f.Fuzz(func(t *testing.T, entry []byte) {
		opened, err := kek.Unwrap(ctx, entry, home)
		if err != nil {
			require.ErrorIs(t, err, ErrUnwrap)
			return
		}
		require.Equal(t, key, opened)
	})
}
