// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package client

import (
	"encoding/base64"
	"errors"
	"fmt"
	"math"
	"sync"
	"sync/atomic"
)

const keyBytes = 32

// errAD refuses associated data whose length would not fit its prefix.
var errAD = errors.New("associated data must be shorter than 4 GiB")

// dataKey is a data key in use.
type dataKey struct {
	text    string // dek:v<version>:<key>, as datakey answered it
	version int
	end     instant
	once    bool // its lease is 0: it is used by those who wait for it, and not kept
	aead    *xaes
	ad      []byte // of its envelopes, up to the caller's part

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
	aead, err := newXAES(key)
	if err != nil {
		return nil, err
	}
	return &dataKey{
		text: text, version: version, end: end, aead: aead,
		ad:   adList(envelopeLabel, text),
		head: start + envelopeMark + rest + ".",
	}, nil
}

// use counts a message of n bytes, and reports whether the key may seal it.
func (k *dataKey) use(n int, l limits) bool {
	return k.messages.Add(1) <= l.messages && k.bytes.Add(int64(n)) <= l.bytes
}

// scratch is what one message needs besides its result: its associated data, and
// the sealed bytes before they are encoded. Neither is secret.
type scratch struct{ ad, sealed []byte }

var scratches = sync.Pool{New: func() any { return new(scratch) }}

// maxScratch bounds the bytes that are kept for the next message.
const maxScratch = 64 << 10

func (s *scratch) release() {
	if cap(s.ad)+cap(s.sealed) <= maxScratch {
		scratches.Put(s)
	}
}

// scratchFor has the associated data of an envelope.
func (k *dataKey) scratchFor(callers []byte) (*scratch, error) {
	if uint64(len(callers)) > math.MaxUint32 {
		return nil, errAD
	}
	s, _ := scratches.Get().(*scratch)
	s.ad = appendPart(append(s.ad[:0], k.ad...), callers)
	return s, nil
}

// seal makes an envelope.
func (k *dataKey) seal(plaintext, callers []byte) ([]byte, error) {
	s, err := k.scratchFor(callers)
	if err != nil {
		return nil, err
	}
	defer s.release()
	if s.sealed, err = k.aead.seal(s.sealed[:0], plaintext, s.ad); err != nil {
		return nil, fmt.Errorf("sealing: %w", err)
	}
	out := make([]byte, len(k.head)+base64.StdEncoding.EncodedLen(len(s.sealed)))
	base64.StdEncoding.Encode(out[copy(out, k.head):], s.sealed)
	return out, nil
}

// open opens what an envelope of this key has sealed.
func (k *dataKey) open(sealed, callers []byte) ([]byte, error) {
	s, err := k.scratchFor(callers)
	if err != nil {
		return nil, err
	}
	defer s.release()
	return k.aead.open(sealed, s.ad)
}
