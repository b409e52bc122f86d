// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package kms

import (
	"context"
	"sync"
	"time"
)

const (
	// A token is renewed when a third of its life has passed, and looked at again after
	// retryRenewal where that failed.
	retryRenewal = time.Minute
	maxRenewal   = 24 * time.Hour
)

// renewal says when a token is to be renewed.
type renewal struct {
	mu   sync.Mutex
	next time.Time
	off  bool
}

func newRenewal() *renewal { return &renewal{} }

// begin reports whether a token is to be renewed now. Of several callers it tells one so.
func (r *renewal) begin(now time.Time) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.off || now.Before(r.next) {
		return false
	}
	r.next = now.Add(retryRenewal)
	return true
}

// renewed notes for how long a token lives.
func (r *renewal) renewed(now time.Time, ttl time.Duration, renewable bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.off = !renewable || ttl <= 0
	r.next = now.Add(min(ttl/3, maxRenewal))
}

// Renew prolongs the token. One that cannot be prolonged is left as it is: what comes of
// that shows when a key is asked for.
func (t *transit) Renew(ctx context.Context) {
	if t.renewal == nil || !t.renewal.begin(time.Now()) {
		return
	}
	var answer struct {
		Auth struct {
			TTL       int64 `json:"lease_duration"`
			Renewable bool  `json:"renewable"`
		} `json:"auth"`
	}
	if t.post(ctx, "auth/token/renew-self", map[string]any{}, &answer) == nil {
		t.renewal.renewed(time.Now(), time.Duration(answer.Auth.TTL)*time.Second, answer.Auth.Renewable)
	}
}
