// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package keyring

import (
	"crypto/rand"
	"errors"
	"fmt"

	"github.com/tink-crypto/tink-go/v2/aead"
	"github.com/tink-crypto/tink-go/v2/aead/subtle"
	"github.com/tink-crypto/tink-go/v2/aead/xaesgcm"
	"github.com/tink-crypto/tink-go/v2/insecuresecretdataaccess"
	"github.com/tink-crypto/tink-go/v2/keyset"
	"github.com/tink-crypto/tink-go/v2/secretdata"
)

// KeySize is the length of every key here, in bytes.
const KeySize = 32

// KeyType names the AEAD that a key is used with.
type KeyType string

// The key types. XAES-256-GCM is the default: it derives a key per message from
// a 192-bit nonce, so random nonces never run out. AES-256-GCM with random
// 96-bit nonces is limited to 2^32 messages a key (NIST SP 800-38D, 8.3); it is
// for operators who are required to use it.
const (
	XAES256GCM KeyType = "xaes256-gcm"
	AES256GCM  KeyType = "aes256-gcm"

	DefaultKeyType = XAES256GCM
)

// ErrKeyType reports a key type that this package does not know.
var ErrKeyType = errors.New(`key_type must be "xaes256-gcm" or "aes256-gcm"`)

// ErrOpen reports a ciphertext that does not open: damaged, sealed by another
// key, or moved from another place.
var ErrOpen = errors.New("ciphertext does not open")

// ParseKeyType returns the key type that s names; the empty string names the
// default. It fails with [ErrKeyType].
func ParseKeyType(s string) (KeyType, error) {
	switch t := KeyType(s); t {
	case "":
		return DefaultKeyType, nil
	case XAES256GCM, AES256GCM:
		return t, nil
	default:
		return "", ErrKeyType
	}
}

// AEAD seals and opens with one key. Every Seal draws a fresh nonce, which the
// ciphertext carries. An AEAD is safe for concurrent use.
type AEAD interface {
	// Seal encrypts plaintext and authenticates it together with ad.
	Seal(plaintext, ad []byte) ([]byte, error)
	// Open is the reverse of Seal; it fails with [ErrOpen].
	Open(ciphertext, ad []byte) ([]byte, error)
}

// primitive is the interface of Tink's AEADs.
type primitive interface {
	Encrypt(plaintext, ad []byte) ([]byte, error)
	Decrypt(ciphertext, ad []byte) ([]byte, error)
}

type tinkAEAD struct{ primitive }

func (a tinkAEAD) Seal(plaintext, ad []byte) ([]byte, error) {
	return a.Encrypt(plaintext, ad)
}

func (a tinkAEAD) Open(ciphertext, ad []byte) ([]byte, error) {
	plaintext, err := a.Decrypt(ciphertext, ad)
	if err != nil {
		// Tink's own text names its internals; the caller learns no more
		// from it than that it did not open.
		return nil, ErrOpen
	}
	return plaintext, nil
}

// NewMaterial returns a fresh random key.
func NewMaterial() []byte {
	key := make([]byte, KeySize)
	_, _ = rand.Read(key) // never fails: crypto/rand aborts the process instead
	return key
}

// NewAEAD makes an AEAD of type t from key, which it copies: the caller should
// clear its own copy.
func NewAEAD(t KeyType, key []byte) (AEAD, error) {
	if len(key) != KeySize {
		return nil, fmt.Errorf("a key has %d bytes, not %d", KeySize, len(key))
	}
	switch t {
	case XAES256GCM:
		return newXAES(key)
	case AES256GCM:
		p, err := subtle.NewAESGCM(key)
		if err != nil {
			return nil, fmt.Errorf("making an AES-GCM key: %w", err)
		}
		return tinkAEAD{p}, nil
	default:
		return nil, ErrKeyType
	}
}

// newXAES makes an AEAD as https://c2sp.org/XAES-256-GCM has it: a 96-bit salt
// and a 96-bit nonce, together the 192-bit nonce of the specification, before
// the ciphertext. Tink offers it through a keyset only.
func newXAES(key []byte) (AEAD, error) {
	const saltSize = 12
	params, err := xaesgcm.NewParameters(xaesgcm.VariantNoPrefix, saltSize)
	if err != nil {
		return nil, fmt.Errorf("making XAES-GCM parameters: %w", err)
	}
	k, err := xaesgcm.NewKey(secretdata.NewBytesFromData(key, insecuresecretdataaccess.Token{}), 0, params)
	if err != nil {
		return nil, fmt.Errorf("making an XAES-GCM key: %w", err)
	}
	manager := keyset.NewManager()
	id, err := manager.AddKey(k)
	if err != nil {
		return nil, fmt.Errorf("adding an XAES-GCM key: %w", err)
	}
	if err := manager.SetPrimary(id); err != nil {
		return nil, fmt.Errorf("choosing an XAES-GCM key: %w", err)
	}
	handle, err := manager.Handle()
	if err != nil {
		return nil, fmt.Errorf("reading an XAES-GCM keyset: %w", err)
	}
	p, err := aead.New(handle)
	if err != nil {
		return nil, fmt.Errorf("making an XAES-GCM key: %w", err)
	}
	return tinkAEAD{p}, nil
}
