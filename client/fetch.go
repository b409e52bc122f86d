// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package client

import (
	"context"
	"errors"
	"slices"
	"time"
)

const (
	// attempts is how often a key may arrive after its end before a call gives up.
	attempts = 8
	// maxKeysOpened is how many data keys one request opens. OpenBao takes bodies
	// of 1,000 strings by default.
	maxKeysOpened = 250
)

var errMessageSize = errors.New("the message has more bytes than a data key may seal: encrypt it as a stream")

// keyFor is a key that may seal n more bytes. Other callers may use a key up while
// this one waits for it: that is no failure, so it waits for the next key.
func (a *AEAD) keyFor(ctx context.Context, n int) (*dataKey, error) {
	if int64(n) > a.limits.bytes {
		return nil, errMessageSize
	}
	for {
		k := a.keys.sealingKey()
		if k == nil {
			var err error
			if k, err = a.nextKey(ctx); err != nil {
				return nil, err
			}
		}
		if k.use(n, a.limits) {
			return k, nil
		}
		a.keys.retire(k)
	}
}

// nextKey fetches a key to seal with, one fetch for all who need it.
func (a *AEAD) nextKey(ctx context.Context) (*dataKey, error) {
	for range attempts {
		k, f, mine := a.keys.join(sealing)
		if k != nil {
			return k, nil
		}
		if mine {
			go func() {
				k, err := a.fetch()
				a.keys.land(sealing, f, k, err)
			}()
		}
		if k, err := a.arrival(ctx, f); k != nil || err != nil {
			return k, err
		}
	}
	return nil, ErrLease
}

// openedKey is the data key that the engine answered as text.
func (a *AEAD) openedKey(ctx context.Context, text string) (*dataKey, error) {
	if k := a.keys.kept(text); k != nil {
		return k, nil
	}
	keys, errs := a.openedKeys(ctx, []string{text})
	return keys[0], errs[0]
}

// openedKeys opens data keys, as far as they are not kept, in as few requests as
// may be. Each has its key or its error, in the same order.
func (a *AEAD) openedKeys(ctx context.Context, texts []string) ([]*dataKey, []error) {
	keys, errs := make([]*dataKey, len(texts)), make([]error, len(texts))
	left := make([]int, len(texts))
	for i := range texts {
		left[i] = i
	}
	for range attempts {
		flights := make([]*flight, len(texts))
		var mine []int
		for _, i := range left {
			var isMine bool
			if keys[i], flights[i], isMine = a.keys.join(texts[i]); isMine {
				mine = append(mine, i)
			}
		}
		a.openAll(texts, flights, mine)
		var late []int
		for _, i := range left {
			if flights[i] == nil {
				continue
			}
			if keys[i], errs[i] = a.arrival(ctx, flights[i]); keys[i] == nil && errs[i] == nil {
				late = append(late, i)
			}
		}
		if left = late; len(left) == 0 {
			return keys, errs
		}
	}
	for _, i := range left {
		errs[i] = ErrLease
	}
	return keys, errs
}

// arrival waits for a key. A key that has ended by then is none, unless its lease
// is 0: that lets those use it who waited for it, once.
func (a *AEAD) arrival(ctx context.Context, f *flight) (*dataKey, error) {
	select {
	case <-f.done:
	case <-ctx.Done():
		if a.life.Err() != nil {
			return nil, ErrClosed
		}
		return nil, ctx.Err()
	}
	if f.err != nil {
		return nil, f.err
	}
	if !f.key.once && f.key.end.reached(a.keys.now()) {
		return nil, nil //nolint:nilnil // neither a key nor a failure: it came too late
	}
	return f.key, nil
}

// fetch asks Vault for a new data key.
func (a *AEAD) fetch() (*dataKey, error) {
	start := a.keys.now()
	answer, err := a.tenant.DataKey(a.life, DataKeyRequest{Bits: 8 * keyBytes, AssociatedData: []byte(dataKeyLabel)})
	if err != nil {
		return nil, err
	}
	return a.keep(answer.Ciphertext, answer.Plaintext, start, answer.LeaseSeconds)
}

// openAll asks Vault to open the texts at the indexes of mine, and lands their
// flights.
func (a *AEAD) openAll(texts []string, flights []*flight, mine []int) {
	if len(mine) == 0 {
		return
	}
	go func() {
		for part := range slices.Chunk(mine, maxKeysOpened) {
			a.openPart(texts, flights, part)
		}
	}()
}

func (a *AEAD) openPart(texts []string, flights []*flight, part []int) {
	start := a.keys.now()
	batch := make([]Ciphertext, len(part))
	for j, i := range part {
		batch[j] = Ciphertext{texts[i], []byte(dataKeyLabel)}
	}
	answer, err := a.tenant.batch(a.life, "decrypt", batch, len(batch))
	for j, i := range part {
		var k *dataKey
		failed := err
		if failed == nil {
			k, failed = a.opened(texts[i], start, answer, j)
		}
		a.keys.land(texts[i], flights[i], k, failed)
	}
}

// opened makes the key of entry j of an answer.
func (a *AEAD) opened(text string, start instant, answer *batchAnswer, j int) (*dataKey, error) {
	r := &answer.Results[j]
	if err := r.err("decrypt"); err != nil {
		return nil, err
	}
	lease := r.Lease
	if lease == nil {
		lease = answer.Lease
	}
	return a.keep(text, r.Plaintext, start, lease)
}

// keep makes a key that ends with its lease: of one that came with none, the
// latest that the engine told.
func (a *AEAD) keep(text string, key []byte, start instant, seconds *int) (*dataKey, error) {
	lease := a.maxAge
	if seconds != nil {
		told := leaseOf(*seconds)
		a.lease.Store(int64(told))
		lease = min(lease, told)
	} else if told := a.lease.Load(); told >= 0 {
		lease = min(lease, time.Duration(told))
	}
	k, err := newDataKey(text, key, start.add(lease))
	if err == nil {
		k.once = lease == 0
	}
	return k, err
}

// leaseOf is a lease that the engine answered. What is longer than a year is as
// good as one, and does not overflow.
func leaseOf(seconds int) time.Duration {
	return time.Duration(min(max(seconds, 0), 365*24*3600)) * time.Second
}
