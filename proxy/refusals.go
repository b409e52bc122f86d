// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package proxy

import (
	"context"
	"fmt"
	"time"

	lru "github.com/hashicorp/golang-lru/v2"

	"github.com/vault-plugin-dek/vault-plugin-dek/proxy/internal/throttle"
)

// refusals remembers the JWTs and tokens that Vault has refused a moment ago, by their
// hashes. Who goes on with one is answered without asking Vault.
type refusals struct {
	counted *throttle.Limiter // of repeats; nil: they are not counted
	last    *lru.Cache[tokenKey, refusal]
	now     func() time.Time
}

type refusal struct {
	err   error
	until time.Time
}

// newRefusals counts repeats of a credential by a Limiter, which may count others too, or
// with nil does not count them.
func newRefusals(counted *throttle.Limiter, now func() time.Time) (*refusals, error) {
	last, err := lru.New[tokenKey, refusal](throttledKeys)
	if err != nil {
		return nil, fmt.Errorf("refusals: %w", err)
	}
	return &refusals{counted: counted, last: last, now: now}, nil
}

func (r *refusals) add(credential tokenKey, err error) {
	r.last.Add(credential, refusal{err: err, until: r.now().Add(refusedFor)})
}

// of returns the error with which Vault refused a credential a moment ago, nil if it did
// not; *throttle.Refused if the credential has come too often since; or errBusy.
func (r *refusals) of(ctx context.Context, credential tokenKey) error {
	known, ok := r.last.Get(credential)
	if !ok || !r.now().Before(known.until) {
		return nil
	}
	if r.counted == nil {
		return known.err
	}
	done, err := r.counted.Begin(ctx, string(credential[:]))
	if err != nil {
		return waited(err)
	}
	done(true)
	return known.err
}
