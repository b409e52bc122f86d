// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package keyringtest

import (
	"crypto/aes"
	"crypto/rand"
	"crypto/rsa"
	"encoding/binary"
	"errors"
	"hash"
)

// kwpIV begins what AES-KWP encrypts: RFC 5649, 3.
var kwpIV = []byte{0xA6, 0x59, 0x59, 0xA6}

var errKWP = errors.New("does not unwrap")

// WrapKWP is AES key wrap with padding, as RFC 5649, 4.1 has it.
func WrapKWP(kek, key []byte) ([]byte, error) {
	block, err := aes.NewCipher(kek)
	if err != nil {
		return nil, err
	}
	aiv := binary.BigEndian.AppendUint32(kwpIV[:4:4], uint32(len(key))) // #nosec G115 -- tests
	padded := append(append([]byte(nil), key...), make([]byte, (8-len(key)%8)%8)...)
	if len(padded) == 8 {
		out := append(aiv, padded...)
		block.Encrypt(out, out)
		return out, nil
	}
	n := len(padded) / 8
	r := append(aiv, padded...) // A, R[1], ..., R[n] of RFC 3394, 2.2.1
	b := make([]byte, 16)
	for j := range 6 {
		for i := 1; i <= n; i++ {
			copy(b, r[:8])
			copy(b[8:], r[8*i:8*i+8])
			block.Encrypt(b, b)
			t := binary.BigEndian.Uint64(b) ^ uint64(n*j+i) // #nosec G115 -- tests
			binary.BigEndian.PutUint64(r, t)
			copy(r[8*i:], b[8:])
		}
	}
	return r, nil
}

// UnwrapKWP is the reverse of WrapKWP: RFC 5649, 4.2.
func UnwrapKWP(kek, wrapped []byte) ([]byte, error) {
	block, err := aes.NewCipher(kek)
	if err != nil {
		return nil, err
	}
	if len(wrapped) < 16 || len(wrapped)%8 != 0 {
		return nil, errKWP
	}
	n := len(wrapped)/8 - 1
	r := append([]byte(nil), wrapped...)
	if n == 1 {
		block.Decrypt(r, r)
	} else {
		b := make([]byte, 16)
		for j := 5; j >= 0; j-- {
			for i := n; i >= 1; i-- {
				binary.BigEndian.PutUint64(b, binary.BigEndian.Uint64(r)^uint64(n*j+i)) // #nosec G115 -- tests
				copy(b[8:], r[8*i:8*i+8])
				block.Decrypt(b, b)
				copy(r, b[:8])
				copy(r[8*i:], b[8:])
			}
		}
	}
	size := int(binary.BigEndian.Uint32(r[4:]))
	if string(r[:4]) != string(kwpIV) || size > 8*n || size <= 8*(n-1) {
		return nil, errKWP
	}
	for _, b := range r[8+size:] {
		if b != 0 {
			return nil, errKWP
		}
	}
	return r[8 : 8+size], nil
}

// WrapForImport makes an import as its owner does: an ephemeral AES key encrypted
// by RSA-OAEP, then the key wrapped under that by AES-KWP.
func WrapForImport(public *rsa.PublicKey, h hash.Hash, ephemeral, key, label []byte) ([]byte, error) {
	encrypted, err := rsa.EncryptOAEP(h, rand.Reader, public, ephemeral, label)
	if err != nil {
		return nil, err
	}
	wrapped, err := WrapKWP(ephemeral, key)
	if err != nil {
		return nil, err
	}
	return append(encrypted, wrapped...), nil
}
