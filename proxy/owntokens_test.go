// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package proxy

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/vault-plugin-dek/vault-plugin-dek/proxy/vault/vaulttest"
)

// knowing answers for a Vault that knows the tokens hvs.good… and hvs.login-….
func knowing(good, unknown http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		token := r.Header.Get("X-Vault-Token")
		if strings.HasPrefix(token, "hvs.good") || strings.HasPrefix(token, "hvs.login") {
			good(w, r)
			return
		}
		unknown(w, r)
	}
}

// tokenStand is a proxy before such a Vault, which says of others what unknown says.
func tokenStand(t *testing.T, unknown http.HandlerFunc) *stand {
	t.Helper()
	s := userStand(t)
	for _, route := range []string{vaulttest.AtSettings, vaulttest.AtChange, vaulttest.AtSelf, vaulttest.AtRevoke} {
		s.vault.On(route, knowing(s.vault.Answer(route), unknown))
	}
	return s
}

// with reads the settings with a Vault token.
func (s *stand) with(token string, edits ...edit) *httptest.ResponseRecorder {
	return s.do("GET", settingsPath, append([]edit{header("INFA-SESSION-ID", token)}, edits...)...)
}

// exhaust uses up what an address may come with of unknown tokens.
func (s *stand) exhaust(t *testing.T) {
	t.Helper()
	for i := range 300 {
		requirePublicError(t, s.with(fmt.Sprintf("hvs.junk-%d", i)), 401, "UNAUTHORIZED")
	}
}

// TestUnknownTokensOfAnAddress: worthless tokens get no further than worthless JWTs, on
// every route that takes a token, and nobody whose token is known is shut out.
func TestUnknownTokensOfAnAddress(t *testing.T) {
	for name, unknown := range map[string]string{"Vault": vaulttest.InvalidToken, "OpenBao": vaulttest.BareDenial} {
		t.Run(name, func(t *testing.T) {
			s := tokenStand(t, vaulttest.Reply(403, unknown))
			s.vault.On(atUserLogin, vaulttest.Reply(200, `{"auth": {"client_token": "hvs.good-user", "entity_id": "e", "metadata": {"username": "alice"}}}`))
			require.Equal(t, 200, s.with("hvs.good-1").Code)
			s.exhaust(t)
			before := len(s.vault.Calls())
			w := s.with("hvs.junk-330")
			requirePublicError(t, w, 429, "RATE_LIMITED")
			require.Equal(t, "1", w.Header().Get("Retry-After"))
			require.Contains(t, w.Body.String(), "not known to Vault")
			junk := header("INFA-SESSION-ID", "hvs.junk-331")
			requirePublicError(t, s.change(junk), 429, "RATE_LIMITED")
			requirePublicError(t, s.change(junk, body("{}")), 429, "RATE_LIMITED")
			requirePublicError(t, s.do("POST", "/public/core/v3/logout", junk), 429, "RATE_LIMITED")
			require.Len(t, s.vault.Calls(), before, "Vault is spared the rest")

			for range 40 {
				require.Equal(t, 200, s.with("hvs.good-1").Code, "whose token is known goes on")
			}
			require.Equal(t, 200, s.rotate().Code, "logins are counted for themselves")
			require.Equal(t, 200, s.userLogin().Code)
			require.Equal(t, 200, s.with("hvs.good-user").Code, "a session that was just opened is known")
			requirePublicError(t, s.with("hvs.junk-332", from("198.51.100.1")), 401, "UNAUTHORIZED")
			s.clock.advance(refusedFor)
			require.Equal(t, 200, s.with("hvs.good-2").Code)
			for n := 0; s.with(fmt.Sprintf("hvs.late-%d", n)).Code == 401; n++ {
				require.Less(t, n, 10, "five a second")
			}
		})
	}
}

// TestOneUnknownToken: a caller that goes on with a token that has ended does not shut
// out its neighbours, and hardly reaches Vault.
func TestOneUnknownToken(t *testing.T) {
	s := tokenStand(t, vaulttest.Reply(403, vaulttest.InvalidToken))
	good := s.vault.Answer(vaulttest.AtSettings)
	require.Equal(t, 200, s.with("hvs.good-1").Code)
	s.vault.On(vaulttest.AtSettings, vaulttest.Reply(403, vaulttest.InvalidToken))
	for range 400 {
		requirePublicError(t, s.with("hvs.good-1"), 401, "UNAUTHORIZED")
	}
	require.Len(t, s.vault.Seen(vaulttest.AtSettings), 2)
	s.exhaust(t)
	s.vault.On(vaulttest.AtSettings, good)
	requirePublicError(t, s.with("hvs.good-1"), 401, "UNAUTHORIZED")
	s.clock.advance(refusedFor)
	require.Equal(t, 200, s.with("hvs.good-1").Code, "it was Vault that had lost its memory")
}

// TestRefusedLoginsDoNotStopTokens: the two kinds of refusals are counted apart.
func TestRefusedLoginsDoNotStopTokens(t *testing.T) {
	s := newStand(t)
	s.vault.On(vaulttest.AtLogin, refusesLogins)
	for i := range 30 {
		requireAdminError(t, s.rotate(s.nobody(i)), 401, "UNAUTHORIZED")
	}
	requireAdminError(t, s.rotate(s.nobody(30)), 429, "RATE_LIMITED")
	require.Equal(t, 200, s.with("hvs.new").Code)
}

// TestWhatCountsForTokens: only that Vault does not know the token counts against it, and
// only what Vault says after a look at it counts for it.
func TestWhatCountsForTokens(t *testing.T) {
	for name, tc := range map[string]struct {
		answer http.HandlerFunc
		status int
		known  bool
	}{
		"policy":  {vaulttest.Reply(403, vaulttest.Denied), 403, true},
		"refused": {vaulttest.Reply(400, `{"errors":["1 error occurred:\n\t* x\n\n"]}`), 400, true},
		"sealed":  {vaulttest.Reply(503, `{"errors":["Vault is sealed"]}`), 503, false},
		"quota":   {vaulttest.Reply(429, `{"errors":["request path \"dek/x\": rate limit quota exceeded"]}`), 429, false},
		"engine":  {vaulttest.Reply(404, `{"errors":["no handler for route \"dek/x\". route entry not found."]}`), 500, false},
		"gone":    {vaulttest.HangUp, 503, false},
	} {
		t.Run(name, func(t *testing.T) {
			s := tokenStand(t, vaulttest.Reply(403, vaulttest.InvalidToken))
			answer := s.vault.Answer(vaulttest.AtSettings)
			s.vault.On(vaulttest.AtSettings, tc.answer)
			for range 40 {
				require.Equal(t, tc.status, s.with("hvs.good").Code)
			}
			s.vault.On(vaulttest.AtSettings, answer)
			s.exhaust(t)
			want := 429
			if tc.known {
				want = 200
			}
			require.Equal(t, want, s.with("hvs.good").Code)
		})
	}
}

// A call with a token that is not known goes on when its caller goes away: to hang up
// spares nobody the count.
func TestHangingUpDoesNotSpareTheCount(t *testing.T) {
	s := tokenStand(t, vaulttest.Reply(403, vaulttest.InvalidToken))
	own := s.own
	ctx, hangUp := context.WithCancel(t.Context())
	err := own.try(ctx, "192.0.2.1", keyOf("", "hvs.junk"), func(ctx context.Context) error {
		hangUp()
		return ctx.Err()
	})
	require.NoError(t, err)
}
