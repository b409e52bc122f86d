// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

// Package keyringtest does what the engine's formats ask for with the standard
// library alone, for tests: what the engine seals must open here, and the other
// way round. It shares no code with the engine, on purpose.
package keyringtest

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/subtle"
	"encoding/binary"
	"errors"
	"slices"
)

// AssociatedData is each part preceded by its length in four bytes, most
// significant first.
func AssociatedData(parts ...string) []byte {
	var out []byte
	for _, p := range parts {
		out = binary.BigEndian.AppendUint32(out, uint32(len(p))) // #nosec G115 -- tests
		out = append(out, p...)
	}
	return out
}

// NonceSize returns the length of a key type's nonce, with which a sealed text begins.
func NonceSize(keyType string) int {
	if keyType == "aes256-gcm" {
		return 12
	}
	return 24
}

// Seal encrypts with a nonce of the caller's.
func Seal(keyType string, key, nonce, plaintext, ad []byte) ([]byte, error) {
	gcm, rest, err := of(keyType, key, nonce)
	if err != nil {
		return nil, err
	}
	return append(slices.Clone(nonce), gcm.Seal(nil, rest, plaintext, ad)...), nil
}

// Open is the reverse of Seal.
func Open(keyType string, key, sealed, ad []byte) ([]byte, error) {
	n := NonceSize(keyType)
	if len(sealed) < n {
		return nil, errors.New("shorter than its nonce")
	}
	gcm, rest, err := of(keyType, key, sealed[:n])
	if err != nil {
		return nil, err
	}
	return gcm.Open(nil, rest, sealed[n:], ad)
}

// of returns the AES-256-GCM of one message, and its nonce.
func of(keyType string, key, nonce []byte) (gcm cipher.AEAD, gcmNonce []byte, err error) {
	if keyType == "xaes256-gcm" {
		if key, err = derive(key, nonce[:12]); err != nil {
			return nil, nil, err
		}
		nonce = nonce[12:]
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, nil, err
	}
	gcm, err = cipher.NewGCM(block)
	return gcm, nonce, err
}

// derive makes the key of one message, as https://c2sp.org/XAES-256-GCM has it:
// two blocks of CMAC in counter mode (NIST SP 800-108r1), of one block of input
// each.
func derive(key, salt []byte) ([]byte, error) {
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	k1 := make([]byte, 16) // the subkey of CMAC: AES of zero, doubled in GF(2^128)
	block.Encrypt(k1, k1)
	carry := k1[0] >> 7
	for i := range 15 {
		k1[i] = k1[i]<<1 | k1[i+1]>>7
	}
	k1[15] = k1[15]<<1 ^ carry*0x87
	derived := make([]byte, 32)
	for i := range 2 {
		input := append([]byte{0, byte(i + 1), 'X', 0}, salt...)
		half := derived[16*i:][:16]
		subtle.XORBytes(half, input, k1)
		block.Encrypt(half, half)
	}
	return derived, nil
}
