// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package keyring

import (
	"bytes"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/sha512"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"hash"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/keyring/keyringtest"
)

// wrappingKey is one for all tests, since making one takes its time.
var wrappingKey = sync.OnceValues(NewWrappingKey)

// owner is who wraps a key for import, without the engine's code.
type owner struct {
	t      *testing.T
	public *rsa.PublicKey
}

func newOwner(t *testing.T) (owner, *WrappingKey) {
	t.Helper()
	der, err := wrappingKey()
	require.NoError(t, err)
	key, err := ParseWrappingKey(der)
	require.NoError(t, err)
	text, err := key.PublicPEM()
	require.NoError(t, err)
	block, rest := pem.Decode([]byte(text))
	require.Empty(t, rest)
	require.Equal(t, "PUBLIC KEY", block.Type)
	public, err := x509.ParsePKIXPublicKey(block.Bytes)
	require.NoError(t, err)
	require.Equal(t, 4096, public.(*rsa.PublicKey).N.BitLen())
	return owner{t, public.(*rsa.PublicKey)}, key
}

// wraps returns the bytes of an import.
func (o owner) wraps(h hash.Hash, ephemeral, key, label []byte) []byte {
	o.t.Helper()
	raw, err := keyringtest.WrapForImport(o.public, h, ephemeral, key, label)
	require.NoError(o.t, err)
	return raw
}

func imported(raw []byte) string { return base64.StdEncoding.EncodeToString(raw) }

func TestImportUnwraps(t *testing.T) {
	o, wrapping := newOwner(t)
	for name, h := range map[string]func() hash.Hash{
		"": sha256.New, "SHA256": sha256.New, "sha256": sha256.New, "SHA1": sha1.New,
		"SHA224": sha256.New224, "SHA384": sha512.New384, "SHA512": sha512.New,
	} {
		key := NewMaterial()
		i, err := ParseImport(imported(o.wraps(h(), NewMaterial(), key, nil)), name)
		require.NoError(t, err)
		got, err := wrapping.Unwrap(i)
		require.NoError(t, err, name)
		require.Equal(t, key, got)
	}
}

// What cannot be an import is refused by its form, before RSA.
func TestMalformedImportIsRefused(t *testing.T) {
	good := imported(make([]byte, importBytes))
	for name, text := range map[string]string{
		"empty": "", "rubbish": strings.Repeat("!", len(good)), "1 MiB": strings.Repeat("A", 1<<20),
		"truncated": good[:len(good)-4], "extended": good + "AAAA", "a byte less": imported(make([]byte, importBytes-1)),
		"a byte more": imported(make([]byte, importBytes+1)), "only the AES key": imported(make([]byte, ephemeralBytes)),
		"a key of 16 bytes": imported(make([]byte, importBytes-16)), "a key of 64": imported(make([]byte, importBytes+32)),
		"a line break":         good[:76] + "\n" + good[77:],
		"line breaks":          good[:76] + "\n" + good[76:],
		"a line break behind":  good + "\n",
		"URL alphabet":         strings.Replace(good, "AA", "-_", 1),
		"padding inside":       good[:4] + "====" + good[8:],
		"no padding":           base64.RawStdEncoding.EncodeToString(make([]byte, importBytes+1)),
		"a wrapped ciphertext": "dek:v1:" + good,
	} {
		_, err := ParseImport(text, "")
		require.ErrorIs(t, err, ErrImport, name)
	}
	for _, name := range []string{"MD5", "SHA-256", "SHA3", "SHA512/256", " SHA256", "256", "\x00"} {
		_, err := ParseImport(good, name)
		require.ErrorIs(t, err, ErrHashFunction, name)
	}
}

// Whatever is wrong inside an import: one answer.
func TestImportDoesNotUnwrap(t *testing.T) {
	o, wrapping := newOwner(t)
	key, ephemeral := NewMaterial(), NewMaterial()
	good := o.wraps(sha256.New(), ephemeral, key, nil)
	flip := func(at int) []byte {
		b := slices.Clone(good)
		b[at] ^= 1
		return b
	}
	other, err := rsa.GenerateKey(rand.Reader, wrappingKeyBits)
	require.NoError(t, err)
	stranger := owner{t, &other.PublicKey}
	for name, raw := range map[string][]byte{
		"the first bit of RSA":        flip(0),
		"the last bit of RSA":         flip(ephemeralBytes - 1),
		"the first bit of KWP":        flip(ephemeralBytes),
		"the last bit of KWP":         flip(importBytes - 1),
		"all zero":                    make([]byte, importBytes),
		"all ones":                    bytes.Repeat([]byte{0xff}, importBytes),
		"another mount's":             stranger.wraps(sha256.New(), ephemeral, key, nil),
		"another hash function":       o.wraps(sha1.New(), ephemeral, key, nil),
		"a label":                     o.wraps(sha256.New(), ephemeral, key, []byte("label")),
		"an AES key of 128 bits":      o.wraps(sha256.New(), ephemeral[:16], key, nil),
		"an AES key of 192 bits":      o.wraps(sha256.New(), ephemeral[:24], key, nil),
		"a key of 31 bytes, padded":   o.wraps(sha256.New(), ephemeral, key[:31], nil),
		"a key of 25 bytes, padded":   o.wraps(sha256.New(), ephemeral, key[:25], nil),
		"halves of different imports": append(slices.Clone(good[:ephemeralBytes]), o.wraps(sha256.New(), NewMaterial(), key, nil)[ephemeralBytes:]...),
	} {
		i, err := ParseImport(imported(raw), "")
		require.NoError(t, err, name)
		got, err := wrapping.Unwrap(i)
		require.Equal(t, ErrNotWrapped, err, name)
		require.Nil(t, got, name)
	}
}

func TestMalformedWrappingKeyIsRefused(t *testing.T) {
	der, err := wrappingKey()
	require.NoError(t, err)
	small, err := rsa.GenerateKey(rand.Reader, 2048)
	require.NoError(t, err)
	smallDER, err := x509.MarshalPKCS8PrivateKey(small)
	require.NoError(t, err)
	for name, der := range map[string][]byte{"none": nil, "truncated": der[:len(der)-1], "rubbish": []byte("rubbish"), "2048 bits": smallDER} {
		_, err := ParseWrappingKey(der)
		require.ErrorIs(t, err, errWrappingKey, name)
	}
}

// The vectors of RFC 5649, 6, hold the reference to account.
func TestReferenceWrapsAsRFC5649(t *testing.T) {
	var kek, long, short, wrappedLong, wrappedShort hexBytes
	for text, into := range map[string]*hexBytes{
		"5840df6e29b02af1ab493b705bf16ea1ae8338f4dcc176a8":                 &kek,
		"c37b7e6492584340bed12207808941155068f738":                         &long,
		"138bdeaa9b8fa7fc61f97742e72248ee5ae6ae5360d1ae6a5f54f373fa543b6a": &wrappedLong,
		"466f7250617369":                   &short,
		"afbeb0f07dfbf5419200f2ccb50bb24f": &wrappedShort,
	} {
		require.NoError(t, into.UnmarshalText([]byte(text)))
	}
	for _, v := range []struct{ key, wrapped hexBytes }{{long, wrappedLong}, {short, wrappedShort}} {
		wrapped, err := keyringtest.WrapKWP(kek, v.key)
		require.NoError(t, err)
		require.Equal(t, []byte(v.wrapped), wrapped)
		key, err := keyringtest.UnwrapKWP(kek, v.wrapped)
		require.NoError(t, err)
		require.Equal(t, []byte(v.key), key)
	}
}

// Wycheproof's vectors for AES-KWP under keys of 256 bits: of what is valid, only
// keys of 32 bytes are taken.
func TestWycheproofKWP(t *testing.T) {
	var file struct {
		Tests []struct {
			ID      int      `json:"tcId"`
			Comment string   `json:"comment"`
			Key     hexBytes `json:"key"`
			Message hexBytes `json:"msg"`
			Text    hexBytes `json:"ct"`
			Result  string   `json:"result"`
		} `json:"tests"`
	}
	fromFile(t, "wycheproof_aes256_kwp.json", &file)
	require.Len(t, file.Tests, 93)
	for _, c := range file.Tests {
		key, err := unwrapKey(c.Key, c.Text)
		if c.Result == "valid" && len(c.Message) == KeySize {
			require.NoError(t, err, "test %d, %s", c.ID, c.Comment)
			require.Equal(t, []byte(c.Message), key, "test %d, %s", c.ID, c.Comment)
		} else {
			require.Equal(t, ErrNotWrapped, err, "test %d, %s", c.ID, c.Comment)
		}
		key, err = keyringtest.UnwrapKWP(c.Key, c.Text)
		if c.Result == "valid" {
			require.NoError(t, err, "test %d, %s", c.ID, c.Comment)
			require.Equal(t, []byte(c.Message), key, "test %d, %s", c.ID, c.Comment)
		} else {
			require.Error(t, err, "test %d, %s", c.ID, c.Comment)
		}
	}
}

func TestFingerprint(t *testing.T) {
	a, b := NewMaterial(), NewMaterial()
	require.Equal(t, Fingerprint(a, b), Fingerprint(a, slices.Clone(b)))
	require.NotEqual(t, Fingerprint(a, b), Fingerprint(b, b), "of another tenant")
	require.NotEqual(t, Fingerprint(a, b), Fingerprint(a, a), "of another key")
	require.Len(t, Fingerprint(a, b), 64)
}

// What parses is the one text of its import.
func FuzzParseImport(f *testing.F) {
	good := imported(make([]byte, importBytes))
	for _, text := range []string{"", good, good[:len(good)-4], good + "AAAA", good[:76] + "\n" + good[77:], "dek:v1:AAEC"} {
		f.Add(text, "SHA256")
	}
	f.Add(good, "sha1")
	f.Add(good, "MD5")
	f.Fuzz(func(t *testing.T, text, hashFunction string) {
		i, err := ParseImport(text, hashFunction)
		if err != nil {
			require.True(t, err == ErrImport || err == ErrHashFunction) //nolint:errorlint // nothing is added to them
			return
		}
		require.Equal(t, text, imported(append(slices.Clone(i.ephemeral), i.wrapped...)))
		require.Len(t, i.ephemeral, ephemeralBytes)
	})
}

// What unwraps is what an independent implementation wraps.
func FuzzUnwrapKey(f *testing.F) {
	kek, key := bytes.Repeat([]byte{1}, KeySize), bytes.Repeat([]byte{2}, KeySize)
	wrapped, err := keyringtest.WrapKWP(kek, key)
	require.NoError(f, err)
	f.Add(kek, wrapped)
	f.Add(kek[:16], wrapped)
	f.Add(kek, wrapped[:24])
	f.Add(kek, append(slices.Clone(wrapped), 0))
	f.Add([]byte{}, []byte{})
	f.Fuzz(func(t *testing.T, kek, wrapped []byte) {
		key, err := unwrapKey(kek, wrapped)
		if err != nil {
			require.Equal(t, ErrNotWrapped, err)
			return
		}
		again, err := keyringtest.WrapKWP(kek, key)
		require.NoError(t, err)
		require.Equal(t, wrapped, again)
	})
}
