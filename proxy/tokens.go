// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package proxy

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"time"

	lru "github.com/hashicorp/golang-lru/v2"
	"golang.org/x/sync/singleflight"

	"github.com/vault-plugin-dek/vault-plugin-dek/proxy/vault"
)

// leaseMargin is taken off a Vault token's life, so that a request which began
// with a cached token does not see it expire on the way.
const leaseMargin = 5 * time.Second

// tokenCache keeps the Vault tokens that JWTs were exchanged for. It is keyed by
// a hash, so that a dump of it holds no JWT, and bounded.
type tokenCache struct {
	entries *lru.Cache[tokenKey, cachedToken]
	logins  singleflight.Group
	now     func() time.Time
	observe func(hit bool)
}

type tokenKey [sha256.Size]byte

type cachedToken struct {
	value string
	until time.Time
}

func newTokenCache(size int, now func() time.Time, observe func(hit bool)) (*tokenCache, error) {
	entries, err := lru.New[tokenKey, cachedToken](size)
	if err != nil {
		return nil, fmt.Errorf("token cache: %w", err)
	}
	return &tokenCache{entries: entries, now: now, observe: observe}, nil
}

// keyOf hashes the realm with the JWT: one JWT may mean different things in two
// realms. Neither can contain the separator.
func keyOf(realm, jwt string) tokenKey {
	return sha256.Sum256([]byte(realm + "\x00" + jwt))
}

// get returns a token for the JWT. Requests that need the same login at once
// share one, which one caller's leaving does not end.
func (c *tokenCache) get(ctx context.Context, realm, jwt string, expiry time.Time,
	login func(context.Context) (vault.Token, error),
) (string, error) {
	key := keyOf(realm, jwt)
	if entry, ok := c.entries.Get(key); ok {
		if c.now().Before(entry.until) {
			c.observe(true)
			return entry.value, nil
		}
		c.drop(realm, jwt, entry.value)
	}
	c.observe(false)
	shared, err, _ := c.logins.Do(string(key[:]), func() (any, error) {
		start := c.now()
		token, err := login(context.WithoutCancel(ctx))
		if err != nil {
			return "", err
		}
		if until := keepUntil(start, token, expiry); c.now().Before(until) {
			c.entries.Add(key, cachedToken{value: token.Value, until: until})
		}
		return token.Value, nil
	})
	if err != nil {
		return "", err
	}
	value, ok := shared.(string)
	if !ok {
		return "", errors.New("a shared login returned no token")
	}
	return value, nil
}

// keepUntil is the earlier of the ends of token and JWT. Without an exp claim
// Vault takes an end of its own from iat or nbf, which is not the proxy's to
// guess: the zero time, no caching.
func keepUntil(start time.Time, token vault.Token, expiry time.Time) time.Time {
	if expiry.IsZero() || token.Lease <= leaseMargin {
		return time.Time{}
	}
	until := start.Add(token.Lease - leaseMargin)
	if expiry.Before(until) {
		return expiry
	}
	return until
}

// drop forgets a token, but not a newer one that another request has put there.
func (c *tokenCache) drop(realm, jwt, value string) {
	key := keyOf(realm, jwt)
	if entry, ok := c.entries.Peek(key); ok && entry.value == value {
		c.entries.Remove(key)
	}
}
