// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package client

import (
	"encoding/hex"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/tink-crypto/tink-go/v2/aead"
	"github.com/tink-crypto/tink-go/v2/aead/xaesgcm"
	"github.com/tink-crypto/tink-go/v2/insecuresecretdataaccess"
	"github.com/tink-crypto/tink-go/v2/keyset"
	"github.com/tink-crypto/tink-go/v2/secretdata"
	"github.com/tink-crypto/tink-go/v2/tink"
	"pgregory.net/rapid"
)

// tinkXAES is Tink's XAES-256-GCM.
func tinkXAES(key []byte) (tink.AEAD, error) {
	params, err := xaesgcm.NewParameters(xaesgcm.VariantNoPrefix, 12)
	if err != nil {
		return nil, err
	}
	k, err := xaesgcm.NewKey(secretdata.NewBytesFromData(key, insecuresecretdataaccess.Token{}), 0, params)
	if err != nil {
		return nil, err
	}
	manager := keyset.NewManager()
	id, err := manager.AddKey(k)
	if err != nil {
		return nil, err
	}
	if err := manager.SetPrimary(id); err != nil {
		return nil, err
	}
	handle, err := manager.Handle()
	if err != nil {
		return nil, err
	}
	return aead.New(handle)
}

// The vectors of the specification; the encrypted zero block of the second key
// has its first bit set, and that of the first has not.
func TestXAESVectors(t *testing.T) {
	for _, v := range []struct {
		key    byte
		ad     string
		sealed string
	}{
		{1, "", "ce546ef63c9cc60765923609b33a9a1974e96e52daf2fcf7075e2271"},
		{3, "c2sp.org/XAES-256-GCM", "986ec1832593df5443a179437fd083bf3fdb41abd740a21f71eb769d"},
	} {
		key := make([]byte, keyBytes)
		for i := range key {
			key[i] = v.key
		}
		x, err := newXAES(key)
		require.NoError(t, err)
		sealed, err := hex.DecodeString(v.sealed)
		require.NoError(t, err)
		got, err := x.open(append([]byte("ABCDEFGHIJKLMNOPQRSTUVWX"), sealed...), []byte(v.ad))
		require.NoError(t, err)
		assert.Equal(t, "XAES-256-GCM", string(got))
	}
}

// What one seals the other opens, and neither what was changed.
func TestXAESIsTinks(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		key := rapid.SliceOfN(rapid.Byte(), keyBytes, keyBytes).Draw(t, "key")
		plaintext, ad := rapid.SliceOf(rapid.Byte()).Draw(t, "plaintext"), rapid.SliceOf(rapid.Byte()).Draw(t, "ad")
		ours, err := newXAES(key)
		require.NoError(t, err)
		theirs, err := tinkXAES(key)
		require.NoError(t, err)

		sealed, err := ours.seal(nil, plaintext, ad)
		require.NoError(t, err)
		got, err := theirs.Decrypt(sealed, ad)
		require.NoError(t, err)
		require.Equal(t, string(plaintext), string(got))
		sealed, err = theirs.Encrypt(plaintext, ad)
		require.NoError(t, err)
		got, err = ours.open(sealed, ad)
		require.NoError(t, err)
		require.Equal(t, string(plaintext), string(got))

		sealed[rapid.IntRange(0, len(sealed)-1).Draw(t, "at")] ^= 1
		_, err = ours.open(sealed, ad)
		require.ErrorIs(t, err, ErrDecrypt)
		_, err = ours.open(sealed[:rapid.IntRange(0, len(sealed)-1).Draw(t, "cut")], ad)
		require.ErrorIs(t, err, ErrDecrypt)
	})
}
