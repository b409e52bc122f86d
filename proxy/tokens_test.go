// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package proxy

import (
	"context"
	"errors"
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/require"

	"github.com/vault-plugin-dek/vault-plugin-dek/proxy/vault"
	"github.com/vault-plugin-dek/vault-plugin-dek/proxy/vault/vaulttest"
)

func lookups(s *stand, result string) int {
	return int(testutil.ToFloat64(s.metrics.cache.WithLabelValues(result)))
}

// cacheStand is a token cache whose logins are counted.
type cacheStand struct {
	*tokenCache
	clock  *testClock
	logins int
	lease  time.Duration
}

func newCacheStand(t *testing.T, size int) *cacheStand {
	t.Helper()
	s := &cacheStand{clock: newClock(), lease: time.Hour}
	var err error
	s.tokenCache, err = newTokenCache(size, s.clock.now, func(bool) {})
	require.NoError(t, err)
	return s
}

// ask gets the token of a JWT that is an entity of its own.
func (s *cacheStand) ask(t *testing.T, realm, jwt string, expiry time.Time) string {
	t.Helper()
	return s.askAs(t, loginOf{realm: realm, jwt: jwt, expiry: expiry}, jwt)
}

func (s *cacheStand) askAs(t *testing.T, l loginOf, entity string) string {
	t.Helper()
	l.login = func(_ context.Context, entered func(string)) (vault.Token, error) {
		s.logins++
		entered(entity)
		return vault.Token{Value: l.jwt + "-token", Lease: s.lease, EntityID: entity}, nil
	}
	token, err := s.get(t.Context(), l)
	require.NoError(t, err)
	return token.Value
}

// TestCacheForgetsWhomAnotherLoginContradicts: the tenant and the groups of an entity
// are those of its last login.
func TestCacheForgetsWhomAnotherLoginContradicts(t *testing.T) {
	s := newCacheStand(t, 10)
	far := s.clock.now().Add(time.Hour)
	first := loginOf{realm: "r", jwt: "a", expiry: far, claims: tokenKey{1}}
	second := loginOf{realm: "r", jwt: "b", expiry: far, claims: tokenKey{2}}
	same := loginOf{realm: "r", jwt: "c", expiry: far, claims: tokenKey{2}}
	s.askAs(t, first, "e")
	s.askAs(t, first, "e")
	require.Equal(t, 1, s.logins)
	s.askAs(t, second, "e")
	s.askAs(t, same, "e")
	s.askAs(t, second, "e")
	require.Equal(t, 3, s.logins, "two JWTs that say the same live side by side")
	s.askAs(t, first, "e")
	require.Equal(t, 4, s.logins)
	s.askAs(t, second, "e")
	require.Equal(t, 5, s.logins, "and now the second is the older one")
	first.realm, first.server = "other", "other"
	s.askAs(t, first, "e")
	s.askAs(t, second, "e")
	require.Equal(t, 6, s.logins, "an entity of another realm has nothing to do with it")
}

// TestRefusedLoginTellsOnTheOthers: Vault let the caller in before the proxy found
// that it takes it for somebody else, and has overwritten that one's groups.
func TestRefusedLoginTellsOnTheOthers(t *testing.T) {
	s := newCacheStand(t, 10)
	far := s.clock.now().Add(time.Hour)
	l := loginOf{realm: "r", jwt: "a", expiry: far, claims: tokenKey{1}}
	s.askAs(t, l, "e")
	_, err := s.get(t.Context(), loginOf{
		realm: "r", jwt: "b", expiry: far, claims: tokenKey{2},
		login: func(_ context.Context, entered func(string)) (vault.Token, error) {
			entered("e")
			return vault.Token{}, contradiction("test")
		},
	})
	require.ErrorIs(t, err, errContradicted)
	s.askAs(t, l, "e")
	require.Equal(t, 2, s.logins)
}

func TestCacheEndsWithTheLease(t *testing.T) {
	s := newCacheStand(t, 10)
	s.lease = time.Minute
	far := s.clock.now().Add(24 * time.Hour)
	s.ask(t, "r", "a", far)
	s.clock.advance(time.Minute - leaseMargin - time.Millisecond)
	s.ask(t, "r", "a", far)
	require.Equal(t, 1, s.logins)
	s.clock.advance(time.Millisecond)
	s.ask(t, "r", "a", far)
	require.Equal(t, 2, s.logins, "the margin before the lease's end is not used")
}

func TestCacheEndsWithTheJWT(t *testing.T) {
	s := newCacheStand(t, 10)
	soon := s.clock.now().Add(10 * time.Second)
	s.ask(t, "r", "a", soon)
	s.clock.advance(10 * time.Second)
	require.Equal(t, "a-token", s.ask(t, "r", "a", soon))
	require.Equal(t, 2, s.logins)
	require.Zero(t, s.entries.Len(), "and such a login is not kept")
}

func TestCacheKeepsOnlyWhatHasAnEnd(t *testing.T) {
	s := newCacheStand(t, 10)
	far := s.clock.now().Add(time.Hour)
	s.ask(t, "r", "no exp claim", time.Time{})
	s.lease = leaseMargin
	s.ask(t, "r", "short lease", far)
	s.lease = 0
	s.ask(t, "r", "no lease", far)
	require.Zero(t, s.entries.Len())
}

func TestCacheIsBoundedAndHoldsNoJWT(t *testing.T) {
	s := newCacheStand(t, 2)
	far := s.clock.now().Add(time.Hour)
	for _, jwt := range []string{"a", "b", "a", "c"} {
		s.ask(t, "r", jwt, far)
	}
	require.Equal(t, 3, s.logins)
	require.Equal(t, 2, s.entries.Len())
	s.ask(t, "r", "a", far)
	require.Equal(t, 3, s.logins, "b was used least recently")
	s.ask(t, "other", "a", far)
	require.Equal(t, 4, s.logins, "a realm is part of the key")
	require.NotEqual(t, keyOf("ab", "c"), keyOf("a", "bc"))
}

func TestCacheDropsOnlyTheTokenMeant(t *testing.T) {
	s := newCacheStand(t, 2)
	far := s.clock.now().Add(time.Hour)
	token := s.ask(t, "r", "a", far)
	s.drop("r", "a", "an older token")
	s.drop("r", "unknown", token)
	require.Equal(t, 1, s.entries.Len())
	s.drop("r", "a", token)
	require.Zero(t, s.entries.Len())
}

func TestCacheDoesNotKeepFailures(t *testing.T) {
	s := newCacheStand(t, 2)
	refused := errors.New("refused")
	_, err := s.get(t.Context(), loginOf{
		realm: "r", jwt: "a", expiry: s.clock.now().Add(time.Hour),
		login: func(context.Context, func(string)) (vault.Token, error) { return vault.Token{}, refused },
	})
	require.ErrorIs(t, err, refused)
	s.ask(t, "r", "a", s.clock.now().Add(time.Hour))
	require.Equal(t, 1, s.logins)
}

func TestSharedLoginSurvivesTheCallerThatBeganIt(t *testing.T) {
	s := newCacheStand(t, 2)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := s.get(ctx, loginOf{
		realm: "r", jwt: "a", expiry: s.clock.now().Add(time.Hour),
		login: func(ctx context.Context, entered func(string)) (vault.Token, error) {
			entered("e")
			return vault.Token{Value: "x", Lease: time.Hour}, ctx.Err()
		},
	})
	require.NoError(t, err)
}

func TestLoginIsCached(t *testing.T) {
	s := newStand(t)
	for range 3 {
		require.Equal(t, 200, s.rotate(header("Authorization", "Bearer "+jwt(map[string]any{
			"exp": newClock().now().Add(time.Hour).Unix(),
		}))).Code)
	}
	require.Len(t, s.vault.Seen(vaulttest.AtLogin), 1)
}

func TestCachedLoginDoesNotOutliveTheJWT(t *testing.T) {
	s := newStand(t)
	token := header("Authorization", "Bearer "+s.goodJWT())
	require.Equal(t, 200, s.rotate(token).Code)
	s.clock.advance(59*time.Minute + 50*time.Second)
	require.Equal(t, 200, s.rotate(token).Code)
	s.clock.advance(20 * time.Second)
	requireAdminError(t, s.rotate(token), 401, "UNAUTHORIZED")
}

func TestRevokedTokenIsReplacedOnce(t *testing.T) {
	s := newStand(t)
	token := header("Authorization", "Bearer "+s.goodJWT())
	require.Equal(t, 200, s.rotate(token).Code)
	s.vault.On(vaulttest.AtRotate, func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("X-Vault-Token") == "hvs.login-1" {
			vaulttest.Reply(403, vaulttest.InvalidToken)(w, r)
			return
		}
		vaulttest.Reply(200, vaulttest.RotationData)(w, r)
	})
	require.Equal(t, 200, s.rotate(token).Code)
	require.Len(t, s.vault.Seen(vaulttest.AtLogin), 2)
	require.Equal(t, 200, s.rotate(token).Code)
	require.Len(t, s.vault.Seen(vaulttest.AtLogin), 2, "the new token is kept")

	s.vault.On(vaulttest.AtRotate, vaulttest.Reply(403, vaulttest.InvalidToken))
	before := len(s.vault.Seen(vaulttest.AtRotate))
	requireAdminError(t, s.rotate(token), 401, "UNAUTHORIZED")
	require.Len(t, s.vault.Seen(vaulttest.AtLogin), 3)
	require.Len(t, s.vault.Seen(vaulttest.AtRotate), before+2)

	s.vault.On(vaulttest.AtLogin, vaulttest.Reply(400, `{"errors":["role not found"]}`))
	requireAdminError(t, s.rotate(token), 401, "UNAUTHORIZED")
}

func TestPolicyRefusalKeepsTheLogin(t *testing.T) {
	s := newStand(t)
	s.vault.On(vaulttest.AtRotate, vaulttest.Reply(403, vaulttest.Denied))
	requireAdminError(t, s.rotate(), 403, "FORBIDDEN")
	requireAdminError(t, s.rotate(), 403, "FORBIDDEN")
	require.Len(t, s.vault.Seen(vaulttest.AtLogin), 1)
}

func TestConcurrentLoginsOfOneJWTAreOne(t *testing.T) {
	s := newStand(t)
	const callers = 8
	release := make(chan struct{})
	s.vault.On(vaulttest.AtLogin, func(w http.ResponseWriter, r *http.Request) {
		<-release
		s.vault.Login(w, r)
	})
	token := header("Authorization", "Bearer "+s.goodJWT())
	var wg sync.WaitGroup
	codes := make([]int, callers)
	for i := range callers {
		wg.Go(func() { codes[i] = s.rotate(token).Code })
	}
	// Each caller counts a lookup just before it joins the login.
	require.Eventually(t, func() bool { return lookups(s, cacheMiss) == callers }, time.Minute, time.Millisecond)
	close(release)
	wg.Wait()
	for _, code := range codes {
		require.Equal(t, 200, code)
	}
	// A caller may be descheduled between its lookup and joining; it then finds
	// no login in flight and makes one, but never one each.
	require.Less(t, len(s.vault.Seen(vaulttest.AtLogin)), callers)
}
