// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package client

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"crypto/subtle"
)

const (
	nonceBytes = 24
	tagBytes   = 16
)

// xaes is XAES-256-GCM: https://c2sp.org/XAES-256-GCM. Each message is sealed by
// AES-256-GCM under a key of its own, which AES-CMAC makes of the first half of a
// nonce of 24 bytes.
//
// Tink has it, too, and the tests hold this against Tink's. It is written here
// since Tink's derives through a general CMAC, with more allocations: sealing 200
// bytes as an envelope reaches 0.64 of a bare AEAD's speed with it, and 0.8 here.
type xaes struct {
	block cipher.Block // AES under the key
	k1    [aes.BlockSize]byte
}

// newXAES copies the key into its cipher.
func newXAES(key []byte) (*xaes, error) {
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	x := &xaes{block: block}
	// The subkey of CMAC for whole blocks: the encrypted zero block, doubled in
	// GF(2^128).
	block.Encrypt(x.k1[:], x.k1[:])
	var carry byte
	for i := len(x.k1) - 1; i >= 0; i-- {
		next := x.k1[i] >> 7
		x.k1[i] = x.k1[i]<<1 | carry
		carry = next
	}
	x.k1[len(x.k1)-1] ^= carry * 0x87 // without a branch
	return x, nil
}

// message is the AEAD of one message.
func (x *xaes) message(nonce []byte) (cipher.AEAD, error) {
	key := make([]byte, 2*aes.BlockSize)
	defer clear(key)
	for i := range 2 {
		half := key[i*aes.BlockSize : (i+1)*aes.BlockSize]
		copy(half, []byte{0, byte(i + 1), 'X', 0})
		copy(half[4:], nonce[:nonceBytes/2])
		subtle.XORBytes(half, half, x.k1[:])
		x.block.Encrypt(half, half)
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	return cipher.NewGCM(block)
}

// seal appends a random nonce, the ciphertext and its tag to dst.
func (x *xaes) seal(dst, plaintext, ad []byte) ([]byte, error) {
	var nonce [nonceBytes]byte
	_, _ = rand.Read(nonce[:]) // never fails
	aead, err := x.message(nonce[:])
	if err != nil {
		return nil, err
	}
	return aead.Seal(append(dst, nonce[:]...), nonce[nonceBytes/2:], plaintext, ad), nil
}

// open is the reverse of seal. It fails with [ErrDecrypt].
func (x *xaes) open(sealed, ad []byte) ([]byte, error) {
	if len(sealed) < nonceBytes+tagBytes {
		return nil, ErrDecrypt
	}
	aead, err := x.message(sealed)
	if err != nil {
		return nil, err
	}
	plaintext, err := aead.Open(nil, sealed[nonceBytes/2:nonceBytes], sealed[nonceBytes:], ad)
	if err != nil {
		return nil, ErrDecrypt
	}
	return plaintext, nil
}
