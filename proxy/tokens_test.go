// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package proxy

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/require"
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

func (s *cacheStand) ask(t *testing.T, realm, jwt string, expiry time.Time) string {
	t.Helper()
	token, err := s.get(t.Context(), realm, jwt, expiry, func(context.Context) (Token, error) {
		s.logins++
		return Token{Value: jwt + "-token", Lease: s.lease}, nil
	})
	require.NoError(t, err)
	return token
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
	_, err := s.get(t.Context(), "r", "a", s.clock.now().Add(time.Hour), func(context.Context) (Token, error) {
		return Token{}, refused
	})
	require.ErrorIs(t, err, refused)
	s.ask(t, "r", "a", s.clock.now().Add(time.Hour))
	require.Equal(t, 1, s.logins)
}

func TestSharedLoginSurvivesTheCallerThatBeganIt(t *testing.T) {
	s := newCacheStand(t, 2)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := s.get(ctx, "r", "a", s.clock.now().Add(time.Hour), func(ctx context.Context) (Token, error) {
		return Token{Value: "x", Lease: time.Hour}, ctx.Err()
	})
	require.NoError(t, err)
}
