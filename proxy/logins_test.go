// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package proxy

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/vault-plugin-dek/vault-plugin-dek/proxy/vault"
	"github.com/vault-plugin-dek/vault-plugin-dek/proxy/vault/vaulttest"
)

var refusesLogins = vaulttest.Reply(400, `{"errors":["invalid username or password"]}`)

// from sets the client's address.
func from(address string) edit {
	return func(r *http.Request) { r.RemoteAddr = address + ":1234" }
}

// nobody is a JWT of its own that Vault refuses.
func (s *stand) nobody(n int) edit {
	return header("Authorization", "Bearer "+jwt(map[string]any{"sub": fmt.Sprint("nobody ", n), "exp": s.clock.now().Add(time.Hour).Unix()}))
}

func TestRefusedPasswordsOfAnAccount(t *testing.T) {
	s := userStand(t)
	good := s.vault.Answer(atUserLogin)
	s.vault.On(atUserLogin, refusesLogins)
	guess := func(i int) edit { return from(fmt.Sprintf("192.0.2.%d", i)) }
	for i := range 10 {
		requirePublicError(t, s.userLogin(guess(i)), 401, "UNAUTHORIZED")
	}
	w := s.userLogin(guess(11))
	requirePublicError(t, w, 429, "RATE_LIMITED")
	require.Equal(t, "6", w.Header().Get("Retry-After"))
	for _, name := range []string{"ALICE", "Alice"} {
		requirePublicError(t, s.userLogin(guess(12), body(`{"username": "`+name+`", "password": "x"}`)), 429, "RATE_LIMITED")
	}
	s.vault.On(atUserLogin, good)
	requirePublicError(t, s.userLogin(guess(12)), 429, "RATE_LIMITED")
	require.Len(t, s.vault.Seen(atUserLogin), 10, "Vault is spared the rest")
	s.clock.advance(6 * time.Second)
	require.Equal(t, 200, s.userLogin(guess(12)).Code)
	require.Equal(t, 200, s.userLogin(guess(12)).Code, "what succeeds does not count")
}

func TestRefusedLoginsOfAnAddress(t *testing.T) {
	s := userStand(t)
	s.vault.On("PUT /v1/auth/userpass/login/user", refusesLogins)
	require.Equal(t, 200, s.rotate().Code)
	s.vault.On(vaulttest.AtLogin, vaulttest.Reply(400, `{"errors":["error validating token: invalid signature"]}`))
	for i := range 30 {
		if i%2 == 0 {
			requireAdminError(t, s.rotate(s.nobody(i)), 401, "UNAUTHORIZED")
		} else {
			s.vault.On(fmt.Sprintf("PUT /v1/auth/userpass/login/user%d", i), refusesLogins)
			requirePublicError(t, s.userLogin(body(fmt.Sprintf(`{"username": "user%d", "password": "x"}`, i))), 401, "UNAUTHORIZED")
		}
	}
	w := s.rotate(s.nobody(100))
	requireAdminError(t, w, 429, "RATE_LIMITED")
	require.Equal(t, "2", w.Header().Get("Retry-After"))
	requirePublicError(t, s.userLogin(), 429, "RATE_LIMITED")
	require.Equal(t, 200, s.rotate().Code, "who is logged in goes on")
	requireAdminError(t, s.rotate(header("Authorization", "Bearer junk")), 401, "UNAUTHORIZED")
	requireAdminError(t, s.rotate(s.nobody(101), from("198.51.100.1")), 401, "UNAUTHORIZED")
}

// TestOneBadJWT: a caller that goes on with a JWT that Vault has refused does not
// shut out its neighbours, and hardly reaches Vault.
func TestOneBadJWT(t *testing.T) {
	s := newStand(t)
	good := s.vault.Answer(vaulttest.AtLogin)
	s.vault.On(vaulttest.AtLogin, vaulttest.Reply(400, `{"errors":["error validating token: invalid signature"]}`))
	for range 11 {
		requireAdminError(t, s.rotate(s.nobody(1)), 401, "UNAUTHORIZED")
	}
	requireAdminError(t, s.rotate(s.nobody(1)), 429, "RATE_LIMITED")
	require.Len(t, s.vault.Seen(vaulttest.AtLogin), 1)
	for i := range 29 {
		requireAdminError(t, s.rotate(s.nobody(2+i)), 401, "UNAUTHORIZED")
	}
	s.clock.advance(refusedFor)
	s.vault.On(vaulttest.AtLogin, good)
	require.Equal(t, 200, s.rotate(s.nobody(1)).Code, "what was wrong may have been mended")
}

func TestThrottleBelievesTrustedProxiesOnly(t *testing.T) {
	trust := func(c *Config) { c.TrustedProxies = []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")} }
	for _, tc := range []struct {
		change func(*Config)
		last   int
	}{{func(*Config) {}, 429}, {trust, 401}} {
		s := newStand(t, tc.change, func(c *Config) { c.RefusedPerAddress = 3 })
		s.vault.On(vaulttest.AtLogin, refusesLogins)
		for i := range 4 {
			w := s.rotate(s.nobody(i), header("X-Forwarded-For", fmt.Sprintf("198.51.100.%d", i)))
			if i < 3 {
				require.Equal(t, 401, w.Code)
				continue
			}
			require.Equal(t, tc.last, w.Code)
		}
	}
}

// TestLoginsAtOnce: no more than 64 are at one Vault at a time, and those who have
// waited for too long are told so.
func TestLoginsAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, err := newLogins(1000, 10, time.Now)
		require.NoError(t, err)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		var ok, busy atomic.Int64
		login := func(server string) {
			err := l.attempt(ctx, server, "", "", func() error {
				<-time.After(2 * time.Second) // of the bubble's clock
				return nil
			})
			switch {
			case err == nil:
				ok.Add(1)
			case errors.Is(err, errBusy):
				busy.Add(1)
			}
		}
		var all sync.WaitGroup
		for range 100 {
			all.Go(func() { login("a") })
		}
		all.Go(func() { login("another") })
		all.Wait()
		require.EqualValues(t, loginsAtOnce+1, ok.Load())
		require.EqualValues(t, 100-loginsAtOnce, busy.Load())
		require.Equal(t, 503, loginProblem(errBusy).status)
		require.Equal(t, "1", loginProblem(errBusy).retryAfter)
		require.NotContains(t, loginProblem(errBusy).reason, "sealed")
		require.Len(t, l.slots, 2)
		l.keepServers(realms{"x": {vault: &recordingVault{}}})
		require.Empty(t, l.slots, "and servers of the past are forgotten")
	})
}

// TestSlownessIsNotSealed: a Vault that does not answer in time is neither sealed
// nor out of reach, and the caller and the figures say so.
func TestSlownessIsNotSealed(t *testing.T) {
	s := newStand(t)
	s.use(testClient(t, s.vault, vault.Config{Timeout: 20 * time.Millisecond}))
	s.vault.On(vaulttest.AtLogin, func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() })
	w := s.rotate()
	requireAdminError(t, w, 503, "SERVICE_UNAVAILABLE")
	require.Contains(t, w.Body.String(), "did not answer in time")
	require.NotContains(t, w.Body.String(), "sealed")
	require.Contains(t, s.do("GET", "/metrics").Body.String(), `dek_proxy_logins_total{result="timeout"} 1`)
	s.use(testClient(t, s.vault, vault.Config{})) // a refusal may take longer on a busy machine
	s.vault.Close()
	w = s.rotate(s.nobody(1))
	requireAdminError(t, w, 503, "SERVICE_UNAVAILABLE")
	require.Contains(t, w.Body.String(), "sealed or out of reach")
}
