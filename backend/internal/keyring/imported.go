// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package keyring

import (
	"bytes"
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha1" // #nosec G505 -- in OAEP, where nothing rests on collisions; some HSMs offer no other
	"crypto/sha256"
	"crypto/sha512"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"hash"
	"strings"

	kwp "github.com/tink-crypto/tink-go/v2/kwp/subtle"
)

const (
	// wrappingKeyBits is the size of the RSA key that owners of tenants wrap
	// their keys under: transit's, which their tools know.
	wrappingKeyBits = 4096

	// What an import consists of: an AES key encrypted by RSA, and the key that
	// is imported, which AES-KWP makes eight bytes longer.
	ephemeralBytes = wrappingKeyBits / 8
	importBytes    = ephemeralBytes + KeySize + 8
)

// What is wrong with an import. None of it quotes what arrived.
var (
	// ErrImport reports a text that cannot be an import, by its form alone.
	ErrImport = fmt.Errorf("ciphertext must be standard base64, without line breaks, of %d bytes: "+
		"a 256-bit AES key encrypted by RSA-OAEP, %d bytes, and a %d-byte key wrapped by AES-KWP, %d",
		importBytes, ephemeralBytes, KeySize, importBytes-ephemeralBytes)
	// ErrHashFunction reports a name of no hash function of RSA-OAEP.
	ErrHashFunction = errors.New("hash_function must be SHA1, SHA224, SHA256, SHA384 or SHA512")
	// ErrNotWrapped reports an import that does not unwrap. It is one error for
	// every reason, so that trying reveals no more than that.
	ErrNotWrapped = fmt.Errorf("ciphertext does not unwrap: it must hold a 256-bit AES key encrypted by RSA-OAEP "+
		"(hash_function, also for MGF1; no label) under this mount's wrapping_key, then a %d-byte key wrapped by AES-KWP under that AES key", KeySize)

	// ErrConstantKey reports a key that is no random one for certain.
	ErrConstantKey = errors.New("ciphertext holds a key whose bytes are all equal: a key must be random")

	errWrappingKey = errors.New("the wrapping key is malformed")
)

// hashFunctions has the hash functions of RSA-OAEP, under transit's names.
var hashFunctions = map[string]func() hash.Hash{
	"SHA1":   sha1.New,
	"SHA224": sha256.New224,
	"SHA256": sha256.New,
	"SHA384": sha512.New384,
	"SHA512": sha512.New,
}

// defaultHashFunction is transit's.
const defaultHashFunction = "SHA256"

// Import is a key as its owner sends it: an ephemeral AES key encrypted by
// RSA-OAEP (RFC 8017, 7.1), then the key itself wrapped under that by AES-KWP
// (RFC 5649, NIST SP 800-38F). The layout is that of transit's import.
type Import struct {
	hash      func() hash.Hash
	ephemeral []byte
	wrapped   []byte
}

// ParseImport reads an import. It checks the length before anything is decoded or
// decrypted. It fails with [ErrImport] or [ErrHashFunction].
func ParseImport(ciphertext, hashFunction string) (Import, error) {
	if hashFunction == "" {
		hashFunction = defaultHashFunction
	}
	h := hashFunctions[strings.ToUpper(hashFunction)]
	if h == nil {
		return Import{}, ErrHashFunction
	}
	if len(ciphertext) != strict.EncodedLen(importBytes) {
		return Import{}, ErrImport
	}
	raw, err := DecodeBase64(ciphertext)
	if err != nil || len(raw) != importBytes {
		return Import{}, ErrImport
	}
	return Import{hash: h, ephemeral: raw[:ephemeralBytes], wrapped: raw[ephemeralBytes:]}, nil
}

// WrappingKey is the mount's RSA key. The owners of tenants wrap the keys that they
// import under its public half.
type WrappingKey struct{ private *rsa.PrivateKey }

// NewWrappingKey makes a wrapping key and returns it in PKCS #8 (DER). That
// takes a second or more.
func NewWrappingKey() ([]byte, error) {
	key, err := rsa.GenerateKey(rand.Reader, wrappingKeyBits)
	if err != nil {
		return nil, fmt.Errorf("making the wrapping key: %w", err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, fmt.Errorf("encoding the wrapping key: %w", err)
	}
	return der, nil
}

// ParseWrappingKey is the reverse of NewWrappingKey.
func ParseWrappingKey(der []byte) (*WrappingKey, error) {
	parsed, err := x509.ParsePKCS8PrivateKey(der)
	if err != nil {
		return nil, errWrappingKey // x509's text may go into what the key holds
	}
	key, ok := parsed.(*rsa.PrivateKey)
	if !ok || key.Size() != ephemeralBytes {
		return nil, errWrappingKey
	}
	return &WrappingKey{key}, nil
}

// PublicPEM returns the public half, as PKIX in PEM.
func (k *WrappingKey) PublicPEM() (string, error) {
	der, err := x509.MarshalPKIXPublicKey(k.private.Public())
	if err != nil {
		return "", fmt.Errorf("encoding the wrapping key: %w", err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})), nil
}

// Unwrap opens an import and returns the key in it, which the caller clears
// after use. It fails with [ErrNotWrapped], or with [ErrConstantKey].
func (k *WrappingKey) Unwrap(i Import) ([]byte, error) {
	// Go's OAEP tells in constant time, and in one way, that something is wrong.
	ephemeral, err := rsa.DecryptOAEP(i.hash(), nil, k.private, i.ephemeral, nil)
	if err != nil {
		return nil, ErrNotWrapped
	}
	defer clear(ephemeral)
	key, err := unwrapKey(ephemeral, i.wrapped)
	if err == nil && bytes.Count(key, key[:1]) == len(key) {
		return nil, ErrConstantKey
	}
	return key, err
}

// unwrapKey opens what AES-KWP has wrapped under the ephemeral key.
func unwrapKey(ephemeral, wrapped []byte) ([]byte, error) {
	if len(ephemeral) != KeySize {
		return nil, ErrNotWrapped
	}
	cipher, err := kwp.NewKWP(ephemeral)
	if err != nil {
		return nil, ErrNotWrapped
	}
	key, err := cipher.Unwrap(wrapped)
	if err != nil {
		return nil, ErrNotWrapped
	}
	if len(key) != KeySize {
		clear(key)
		return nil, ErrNotWrapped
	}
	return key, nil
}

// DerivePageKey makes the page key at the place that b names out of an imported key, by
// HKDF-SHA-256 (RFC 5869) without a salt. So a key that is imported twice, by whomever,
// makes two page keys that tell nothing of each other, and each of them counts its seals
// from zero with reason. The caller clears it after use.
func DerivePageKey(imported []byte, b Binding) ([]byte, error) {
	info := AssociatedData("vault-plugin-dek/imported-page-key/v1", b.Tenant, b.Incarnation, b.KeyID, string(b.KeyType))
	key, err := hkdf.Key(sha256.New, imported, nil, string(info), KeySize)
	if err != nil {
		return nil, fmt.Errorf("deriving a page key: %w", err)
	}
	return key, nil
}

// Fingerprint identifies an imported key, so that it is recognized when it is imported
// again. It is keyed with the tenant's placement key: without that key it reveals
// nothing, and it says nothing about other tenants.
func Fingerprint(placementKey, key []byte) string {
	mac := hmac.New(sha256.New, placementKey)
	// What places items begins with the byte of a kind and has no zero byte behind
	// it; the length that begins this label has three.
	mac.Write(AssociatedData("vault-plugin-dek/imported-key/v1"))
	mac.Write(key)
	return hex.EncodeToString(mac.Sum(nil))
}
