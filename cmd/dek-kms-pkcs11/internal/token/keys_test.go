// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package token_test

import (
	"bytes"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/vault-plugin-dek/vault-plugin-dek/cmd/dek-kms-pkcs11/internal/token"
)

// The highest ID encrypts, and what older keys encrypted opens.
func TestHighestIDEncrypts(t *testing.T) {
	l := newLibrary(3)
	k := use(t, l, nil)
	require.Equal(t, "pkcs11:object=dek%20kek;id=%03;type=secret-key", works(t, k))
	old, err := k.Encrypt(t.Context(), []byte("plaintext"))
	require.NoError(t, err)

	l.change(func() {
		l.keys = append(l.keys, fakeKey{label: keyLabel, id: []byte{1}, material: 1}, fakeKey{label: "other", id: []byte{9}, material: 9})
	})
	require.Equal(t, old.KeyID, works(t, k), "a lower ID, and another label, are no rotation")
	l.change(func() { l.keys = append(l.keys, fakeKey{label: keyLabel, id: []byte{0, 1, 0}, material: 4}) })
	require.Equal(t, "pkcs11:object=dek%20kek;id=%00%01%00;type=secret-key", works(t, k), "IDs are numbers")
	opens(t, k, old)

	l.remove(3)
	_, err = k.Decrypt(t.Context(), old)
	require.ErrorIs(t, err, token.ErrNoKey)
	works(t, k)
}

func TestKeyThatIsNamedEncrypts(t *testing.T) {
	l := newLibrary(1, 2, 3)
	k := use(t, l, func(c *token.Config) { c.KeyID = []byte{2} })
	require.Contains(t, works(t, k), "id=%02;")
	sealed, err := use(t, l, nil).Encrypt(t.Context(), []byte("plaintext"))
	require.NoError(t, err)
	require.Contains(t, sealed.KeyID, "id=%03;")
	opens(t, k, sealed)
	l.remove(2)
	_, err = k.KeyID(t.Context())
	require.ErrorIs(t, err, token.ErrNoKey)
}

// A key that was deleted, or disabled, is denied at once, and works at once when it is back.
func TestWithdrawnKey(t *testing.T) {
	l := newLibrary(1)
	k := use(t, l, nil)
	works(t, k)
	sealed, err := k.Encrypt(t.Context(), []byte("plaintext"))
	require.NoError(t, err)
	refused := func(kind error) {
		t.Helper()
		_, err := k.Encrypt(t.Context(), []byte("plaintext"))
		require.ErrorIs(t, err, kind)
		_, err = k.Decrypt(t.Context(), sealed)
		require.ErrorIs(t, err, kind)
		require.NotErrorIs(t, err, token.ErrUnavailable)
	}
	removed := l.remove(1)
	refused(token.ErrNoKey)
	l.change(func() { l.keys = removed })
	opens(t, k, sealed)
	l.change(func() { l.keys[0].disabled = true })
	refused(token.ErrDenied)
	l.change(func() { l.keys[0].disabled = false })
	opens(t, k, sealed)
	require.Equal(t, 1, l.logins)

	// Another key in its place is no denial: nobody has taken the key back.
	l.change(func() { l.keys[0].material = 2 })
	_, err = k.Decrypt(t.Context(), sealed)
	require.ErrorIs(t, err, token.ErrInvalid)
}

func TestKeysThatCannotBeTold(t *testing.T) {
	for name, c := range map[string]struct {
		keys []fakeKey
		kind error
		says string
	}{
		"none":             {nil, token.ErrNoKey, "-key-label"},
		"another label":    {[]fakeKey{{label: "other", id: []byte{1}}}, token.ErrNoKey, "-key-label"},
		"without an ID":    {[]fakeKey{{label: keyLabel}}, token.ErrUnavailable, "CKA_ID"},
		"too long an ID":   {[]fakeKey{{label: keyLabel, id: make([]byte, token.MaxID+1)}}, token.ErrUnavailable, "CKA_ID"},
		"the same ID":      {[]fakeKey{{label: keyLabel, id: []byte{1}}, {label: keyLabel, id: []byte{1}, material: 1}}, token.ErrUnavailable, "2 keys"},
		"the same highest": {[]fakeKey{{label: keyLabel, id: []byte{0}}, {label: keyLabel, id: []byte{2}}, {label: keyLabel, id: []byte{2}}}, token.ErrUnavailable, "2 keys"},
	} {
		t.Run(name, func(t *testing.T) {
			l := newLibrary()
			l.keys = c.keys
			_, err := use(t, l, nil).Encrypt(t.Context(), []byte("plaintext"))
			require.ErrorIs(t, err, c.kind)
			require.ErrorContains(t, err, c.says)
		})
	}
	l := newLibrary(1)
	l.keys = append(l.keys, fakeKey{label: keyLabel})
	require.Contains(t, works(t, use(t, l, nil)), "id=%01;", "a key without an ID does not count beside others")
}

// The longest label and ID make a key_id that Kubernetes takes.
func TestKeyIDIsShort(t *testing.T) {
	label, id := strings.Repeat("ü", token.MaxLabel/2), bytes.Repeat([]byte{0xff}, token.MaxID)
	l := newLibrary()
	l.keys = []fakeKey{{label: label, id: id}}
	require.Less(t, len(works(t, use(t, l, func(c *token.Config) { c.KeyLabel = label }))), 1000)
}

func TestRequestsThatAreRefused(t *testing.T) {
	k := use(t, newLibrary(1, 2), nil)
	for _, plaintext := range [][]byte{nil, make([]byte, token.MaxPlaintext+1)} {
		_, err := k.Encrypt(t.Context(), plaintext)
		require.ErrorIs(t, err, token.ErrInvalid)
	}
	sealed, err := k.Encrypt(t.Context(), make([]byte, token.MaxPlaintext))
	require.NoError(t, err)
	_, err = k.Decrypt(t.Context(), sealed)
	require.NoError(t, err)
	again, err := k.Encrypt(t.Context(), make([]byte, token.MaxPlaintext))
	require.NoError(t, err)
	require.NotEqual(t, sealed.Ciphertext, again.Ciphertext, "each has a nonce of its own")

	changed := func(i int) []byte {
		c := bytes.Clone(sealed.Ciphertext)
		c[i] ^= 1
		return c
	}
	for name, c := range map[string]struct {
		sealed token.Sealed
		kind   error
	}{
		"nothing":            {token.Sealed{}, token.ErrInvalid},
		"too short":          {token.Sealed{Ciphertext: sealed.Ciphertext[:29], KeyID: sealed.KeyID}, token.ErrInvalid},
		"too long":           {token.Sealed{Ciphertext: append(bytes.Clone(sealed.Ciphertext), 0), KeyID: sealed.KeyID}, token.ErrInvalid},
		"another format":     {token.Sealed{Ciphertext: changed(0), KeyID: sealed.KeyID}, token.ErrInvalid},
		"another nonce":      {token.Sealed{Ciphertext: changed(1), KeyID: sealed.KeyID}, token.ErrInvalid},
		"another byte":       {token.Sealed{Ciphertext: changed(20), KeyID: sealed.KeyID}, token.ErrInvalid},
		"no key_id":          {token.Sealed{Ciphertext: sealed.Ciphertext}, token.ErrInvalid},
		"another label":      {token.Sealed{Ciphertext: sealed.Ciphertext, KeyID: "pkcs11:object=dek;id=%02;type=secret-key"}, token.ErrInvalid},
		"a longer label":     {token.Sealed{Ciphertext: sealed.Ciphertext, KeyID: "pkcs11:object=dek%20kek2;id=%02;type=secret-key"}, token.ErrInvalid},
		"another key":        {token.Sealed{Ciphertext: sealed.Ciphertext, KeyID: strings.Replace(sealed.KeyID, "%02", "%01", 1)}, token.ErrInvalid},
		"a key that is gone": {token.Sealed{Ciphertext: sealed.Ciphertext, KeyID: strings.Replace(sealed.KeyID, "%02", "%07", 1)}, token.ErrNoKey},
	} {
		_, err := k.Decrypt(t.Context(), c.sealed)
		require.ErrorIs(t, err, c.kind, name)
	}
}

// Some tokens take a nonce of their own. It is the one that is kept.
func TestNonceOfTheToken(t *testing.T) {
	l := newLibrary(1)
	k := use(t, l, nil)
	l.change(func() { l.nonce = []byte("of the token") })
	works(t, k)
	l.change(func() { l.nonce = []byte("of 16 bytes, odd") })
	_, err := k.Encrypt(t.Context(), []byte("plaintext"))
	require.ErrorIs(t, err, token.ErrUnavailable)
	require.ErrorContains(t, err, "nonce")
}
