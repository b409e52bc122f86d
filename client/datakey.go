// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package client

import (
	"encoding/base64"
	"errors"
	"fmt"
	"math"
	"sync/atomic"

	"github.com/tink-crypto/tink-go/v2/aead"
	"github.com/tink-crypto/tink-go/v2/aead/xaesgcm"
	"github.com/tink-crypto/tink-go/v2/insecuresecretdataaccess"
	"github.com/tink-crypto/tink-go/v2/keyset"
	"github.com/tink-crypto/tink-go/v2/secretdata"
	"github.com/tink-crypto/tink-go/v2/tink"
)

const keyBytes = 32

// errAD refuses associated data whose length would not fit its prefix.
var errAD = errors.New("associated data must be shorter than 4 GiB")

// dataKey is a data key in use.
type dataKey struct {
	text      string // dek:v<version>:<key>, as datakey answered it
	version   int
	end       instant
	once      bool // its lease is 0: it is used by those who wait for it, and not kept
	primitive tink.AEAD
	ad        []byte // of its envelopes, up to the caller's part

	head            string // of its envelopes: dek:v<version>:e1.<key>.
	messages, bytes atomic.Int64
}

// newDataKey makes a key ready for use, and clears key.
func newDataKey(text string, key []byte, end instant) (*dataKey, error) {
	defer clear(key)
	start, version, rest, err := cutVersion(text)
	if err != nil {
		return nil, fmt.Errorf("a data key's %w", err)
	}
	if len(key) != keyBytes {
		return nil, fmt.Errorf("a data key has %d bytes, not %d", len(key), keyBytes)
	}
	primitive, err := newXAES(key)
	if err != nil {
		return nil, err
	}
	return &dataKey{
		text: text, version: version, end: end, primitive: primitive,
		ad:   adList(envelopeLabel, text),
		head: start + envelopeMark + rest + ".",
	}, nil
}

// newXAES makes an AEAD as https://c2sp.org/XAES-256-GCM has it: a nonce of 24
// bytes before the ciphertext. Tink offers it through a keyset only.
func newXAES(key []byte) (tink.AEAD, error) {
	const saltSize = 12 // the first half of the nonce
	params, err := xaesgcm.NewParameters(xaesgcm.VariantNoPrefix, saltSize)
	if err != nil {
		return nil, fmt.Errorf("making XAES-256-GCM parameters: %w", err)
	}
	k, err := xaesgcm.NewKey(secretdata.NewBytesFromData(key, insecuresecretdataaccess.Token{}), 0, params)
	if err != nil {
		return nil, fmt.Errorf("making an XAES-256-GCM key: %w", err)
	}
	manager := keyset.NewManager()
	id, err := manager.AddKey(k)
	if err != nil {
		return nil, fmt.Errorf("adding an XAES-256-GCM key: %w", err)
	}
	if err := manager.SetPrimary(id); err != nil {
		return nil, fmt.Errorf("choosing an XAES-256-GCM key: %w", err)
	}
	handle, err := manager.Handle()
	if err != nil {
		return nil, fmt.Errorf("reading an XAES-256-GCM keyset: %w", err)
	}
	return aead.New(handle)
}

// use counts a message of n bytes, and reports whether the key may seal it.
func (k *dataKey) use(n int, l limits) bool {
	return k.messages.Add(1) <= l.messages && k.bytes.Add(int64(n)) <= l.bytes
}

func (k *dataKey) associatedData(callers []byte) ([]byte, error) {
	if uint64(len(callers)) > math.MaxUint32 {
		return nil, errAD
	}
	out := make([]byte, len(k.ad), len(k.ad)+4+len(callers))
	copy(out, k.ad)
	return appendPart(out, callers), nil
}

// seal makes an envelope.
func (k *dataKey) seal(plaintext, callers []byte) ([]byte, error) {
	ad, err := k.associatedData(callers)
	if err != nil {
		return nil, err
	}
	sealed, err := k.primitive.Encrypt(plaintext, ad)
	if err != nil {
		return nil, fmt.Errorf("sealing: %w", err)
	}
	out := make([]byte, 0, len(k.head)+base64.StdEncoding.EncodedLen(len(sealed)))
	return base64.StdEncoding.AppendEncode(append(out, k.head...), sealed), nil
}

// open opens what an envelope of this key has sealed.
func (k *dataKey) open(sealed, callers []byte) ([]byte, error) {
	ad, err := k.associatedData(callers)
	if err != nil {
		return nil, err
	}
	plaintext, err := k.primitive.Decrypt(sealed, ad)
	if err != nil {
		return nil, ErrDecrypt // Tink's text names its internals
	}
	return plaintext, nil
}
