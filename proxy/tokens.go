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
// hashes, so that a dump of it holds no JWT, and bounded.
//
// Vault keeps tenant and groups by entity, and every login overwrites them. So the
// cache remembers which claims were the last to log in as an entity: a token that
// other claims were exchanged for has, since then, the rights of those, and is not
// used again.
type tokenCache struct {
	entries *lru.Cache[tokenKey, cachedToken]
	last    *lru.Cache[tokenKey, tokenKey] // the last claims by entity
	ended   *lru.Cache[tokenKey, struct{}] // JWTs that have logged out
	logins  singleflight.Group
	now     func() time.Time
	observe func(hit bool)
}

type tokenKey [sha256.Size]byte

type cachedToken struct {
	token  vault.Token
	until  time.Time
	entity tokenKey
	claims tokenKey
}

func newTokenCache(size int, now func() time.Time, observe func(hit bool)) (*tokenCache, error) {
	entries, err := lru.New[tokenKey, cachedToken](size)
	if err != nil {
		return nil, fmt.Errorf("token cache: %w", err)
	}
	last, err := lru.New[tokenKey, tokenKey](size)
	if err != nil {
		return nil, fmt.Errorf("token cache: %w", err)
	}
	ended, err := lru.New[tokenKey, struct{}](size)
	if err != nil {
		return nil, fmt.Errorf("token cache: %w", err)
	}
	return &tokenCache{entries: entries, last: last, ended: ended, now: now, observe: observe}, nil
}

// keyOf hashes a realm with a JWT, or a server with an entity's ID: either may mean
// different things elsewhere. None of these can contain the separator at its end.
func keyOf(at, of string) tokenKey {
	return sha256.Sum256([]byte(at + "\x00" + of))
}

// loginOf is what get needs to know of a login.
type loginOf struct {
	realm, jwt string
	// server is where the entity is: realms may share it.
	server string
	claims tokenKey
	expiry time.Time
	// login makes it. It calls entered as soon as Vault has let the caller in,
	// however the login ends.
	login func(ctx context.Context, entered func(entityID string)) (vault.Token, error)
}

// get returns a token for the JWT. Requests that need the same login at once
// share one, which one caller's leaving does not end.
func (c *tokenCache) get(ctx context.Context, l loginOf) (vault.Token, error) {
	key := keyOf(l.realm, l.jwt)
	if c.ended.Contains(key) {
		return vault.Token{}, errLoggedOut
	}
	if entry, ok := c.entries.Get(key); ok {
		if c.now().Before(entry.until) && c.isLast(entry.entity, entry.claims) {
			c.observe(true)
			return entry.token, nil
		}
		c.drop(l.realm, l.jwt, entry.token.Value)
	}
	c.observe(false)
	shared, err, _ := c.logins.Do(string(key[:]), func() (any, error) { return c.fill(context.WithoutCancel(ctx), key, l) })
	if err != nil {
		return vault.Token{}, err
	}
	token, ok := shared.(vault.Token)
	if !ok {
		return vault.Token{}, errors.New("a shared login returned no token")
	}
	return token, nil
}

// fill makes a login and keeps its token, unless other claims have come between.
func (c *tokenCache) fill(ctx context.Context, key tokenKey, l loginOf) (vault.Token, error) {
	start := c.now()
	var entity tokenKey
	token, err := l.login(ctx, func(entityID string) {
		entity = keyOf(l.server, entityID)
		c.last.Add(entity, l.claims)
	})
	if err != nil {
		return vault.Token{}, err
	}
	if until := keepUntil(start, token, l.expiry); c.now().Before(until) && c.isLast(entity, l.claims) {
		c.entries.Add(key, cachedToken{token: token, until: until, entity: entity, claims: l.claims})
	}
	return token, nil
}

func (c *tokenCache) isLast(entity, claims tokenKey) bool {
	last, known := c.last.Get(entity)
	return known && last == claims
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
	if entry, ok := c.entries.Peek(key); ok && entry.token.Value == value {
		c.entries.Remove(key)
	}
}

// errLoggedOut means that the caller has ended the session itself.
var errLoggedOut = errors.New("the JWT has logged out")

// end forgets a JWT's token and takes the JWT no more.
func (c *tokenCache) end(realm, jwt, value string) {
	c.ended.Add(keyOf(realm, jwt), struct{}{})
	c.drop(realm, jwt, value)
}
