// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package token

import (
	"context"
	"crypto/rand"
)

// A ciphertext is the format, the nonce, and what AES-GCM makes of the plaintext, with the
// key_id as associated data.
const (
	format    = 1
	nonceSize = 12
	tagSize   = 16
	overhead  = 1 + nonceSize + tagSize
)

// MaxPlaintext bounds what is encrypted. Kubernetes takes ciphertexts of less than 1 kB,
// and has 32 bytes to encrypt.
const MaxPlaintext = 4096

// KeyID returns the key_id of the key that encrypts now.
func (t *Token) KeyID(ctx context.Context) (string, error) {
	return call(ctx, t, func(s Session) (string, error) {
		key, err := t.current(s)
		return keyID(t.config.KeyLabel, key.ID), err
	})
}

// Sealed is a ciphertext, and the key_id of the key that it was encrypted under.
type Sealed struct {
	Ciphertext []byte
	KeyID      string
}

// Encrypt encrypts under the current key. The nonce is random, so that a key is good for
// 2^32 calls (NIST SP 800-38D, 8.3). It fails with an error of this package.
func (t *Token) Encrypt(ctx context.Context, plaintext []byte) (Sealed, error) {
	if len(plaintext) == 0 || len(plaintext) > MaxPlaintext {
		return Sealed{}, invalid("plaintext must have 1 to %d bytes", MaxPlaintext)
	}
	return call(ctx, t, func(s Session) (Sealed, error) {
		key, err := t.current(s)
		if err != nil {
			return Sealed{}, err
		}
		name, nonce := keyID(t.config.KeyLabel, key.ID), make([]byte, nonceSize)
		_, _ = rand.Read(nonce) // it never fails
		sealed, used, err := t.lib.Encrypt(s, key.Handle, nonce, associatedData(name), plaintext)
		switch {
		case err != nil:
			return Sealed{}, said("encrypting", err)
		case len(used) != nonceSize || len(sealed) != len(plaintext)+tagSize:
			return Sealed{}, unavailable("the token's AES-GCM has another nonce or tag than of %d and %d bytes", nonceSize, tagSize)
		}
		return Sealed{append(append([]byte{format}, used...), sealed...), name}, nil
	})
}

// Decrypt opens what Encrypt returned. It fails with an error of this package.
func (t *Token) Decrypt(ctx context.Context, sealed Sealed) ([]byte, error) {
	c := sealed.Ciphertext
	if len(c) <= overhead || len(c) > MaxPlaintext+overhead || c[0] != format {
		return nil, invalid("ciphertext is not one of this program's")
	}
	return call(ctx, t, func(s Session) ([]byte, error) {
		key, err := t.byKeyID(s, sealed.KeyID)
		if err != nil {
			return nil, err
		}
		plaintext, err := t.lib.Decrypt(s, key.Handle, c[1:1+nonceSize], associatedData(sealed.KeyID), c[1+nonceSize:])
		if err != nil {
			return nil, said("decrypting", err)
		}
		if len(plaintext) != len(c)-overhead {
			return nil, unavailable("the token's answer has another length than what was encrypted")
		}
		return plaintext, nil
	})
}

func associatedData(keyID string) []byte { return []byte("dek-kms-pkcs11/v1\x00" + keyID) }
