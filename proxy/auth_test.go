// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package proxy

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// badBody makes a request that would be 400, were its caller known.
func badBody(r *http.Request) {
	header("Content-Type", "text/plain")(r)
	header("x-tenantid", "x")(r)
	body("nonsense")(r)
}

func TestWhoIsAskingComesFirst(t *testing.T) {
	s := newStand(t)
	past := s.clock.now().Add(-time.Second).Unix()
	future := s.clock.now().Add(time.Hour).Unix()
	claims := func(tenant any) string { return jwt(map[string]any{"exp": future, "tenant_id": tenant}) }
	for name, value := range map[string]string{
		"empty":               "",
		"no scheme":           s.goodJWT(),
		"scheme alone":        "Bearer",
		"no token":            "Bearer  ",
		"other scheme":        "Basic " + s.goodJWT(),
		"vault token":         "Bearer hvs.CAESIabc",
		"two parts":           "Bearer a.b",
		"four parts":          "Bearer " + s.goodJWT() + ".x",
		"not base64":          "Bearer a!.b.c",
		"no JSON":             "Bearer " + segment("x") + "." + segment("{}") + "." + segment("s"),
		"no alg":              "Bearer " + segment("{}") + "." + segment("{}") + "." + segment("s"),
		"payload no object":   "Bearer " + segment(`{"alg":"x"}`) + "." + segment("[]") + "." + segment("s"),
		"payload null":        "Bearer " + segment(`{"alg":"x"}`) + "." + segment("null") + "." + segment("s"),
		"no signature":        "Bearer " + segment(`{"alg":"none"}`) + "." + segment("{}") + ".",
		"space inside":        "Bearer " + s.goodJWT() + " x",
		"huge":                "Bearer " + segment(`{"alg":"x"}`) + "." + segment("{}") + "." + strings.Repeat("s", maxJWT),
		"expired":             "Bearer " + jwt(map[string]any{"exp": past}),
		"expires now":         "Bearer " + jwt(map[string]any{"exp": s.clock.now().Unix()}),
		"exp no number":       "Bearer " + jwt(map[string]any{"exp": "tomorrow"}),
		"exp null":            "Bearer " + jwt(map[string]any{"exp": nil}),
		"exp negative":        "Bearer " + jwt(map[string]any{"exp": -1e300}),
		"tenant +":            "Bearer " + claims("+"),
		"tenant *":            "Bearer " + claims("*"),
		"tenant empty":        "Bearer " + claims(""),
		"tenant null":         "Bearer " + claims(nil),
		"tenant number":       "Bearer " + claims(5),
		"tenant list":         "Bearer " + claims([]string{tenantID}),
		"tenant upper case":   "Bearer " + claims(strings.ToUpper(tenantID)),
		"tenant with newline": "Bearer " + claims(tenantID+"\n"),
	} {
		t.Run(name, func(t *testing.T) {
			w := s.rotate(header("Authorization", value), badBody)
			requireAdminError(t, w, 401, "UNAUTHORIZED")
			require.Contains(t, w.Body.String(), `"Authentication failed"`)
			require.Equal(t, "Bearer", w.Header().Get("WWW-Authenticate"))
		})
	}
	requireAdminError(t, s.rotate(header("Authorization"), badBody), 401, "UNAUTHORIZED")
	good := "Bearer " + s.goodJWT()
	requireAdminError(t, s.rotate(header("Authorization", good, good), badBody), 401, "UNAUTHORIZED")
	for _, realm := range []string{"other", "Default", "default,other", "../jwt"} {
		requireAdminError(t, s.rotate(header("realmname", realm), badBody), 401, "UNAUTHORIZED")
	}
	requireAdminError(t, s.rotate(header("realmname", "default", "default"), badBody), 401, "UNAUTHORIZED")
	require.Empty(t, s.vault.calls, "none of these is worth asking Vault")
}

func TestVaultsAnswersToALogin(t *testing.T) {
	for _, tc := range []struct {
		name   string
		answer http.HandlerFunc
		status int
		code   string
	}{
		{"wrong signature", reply(400, `{"errors":["error validating token: invalid signature"]}`), 401, "UNAUTHORIZED"},
		{"not mounted", reply(403, `{"errors":["permission denied"]}`), 401, "UNAUTHORIZED"},
		{"not found", reply(404, `{"errors":[]}`), 401, "UNAUTHORIZED"},
		{"keys out of reach", reply(500, `{"errors":["error fetching keys"]}`), 503, "SERVICE_UNAVAILABLE"},
		{"sealed", reply(503, `{"errors":["Vault is sealed"]}`), 503, "SERVICE_UNAVAILABLE"},
		{"replica", reply(473, `{"errors":[]}`), 503, "SERVICE_UNAVAILABLE"},
		{"hang up", hangUp, 503, "SERVICE_UNAVAILABLE"},
		{"rate limit", reply(429, `{"errors":["quota"]}`), 429, "RATE_LIMITED"},
		{"no token", reply(200, `{"auth": null}`), 500, "INTERNAL_ERROR"},
		{"not JSON", reply(200, `<html>`), 500, "INTERNAL_ERROR"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s := newStand(t)
			s.vault.on(atLogin, tc.answer)
			w := s.rotate(badBody)
			requireAdminError(t, w, tc.status, tc.code)
			require.NotContains(t, w.Body.String(), "signature")
			require.Len(t, s.vault.seen(atLogin), 1, "a login is not retried")
			require.Empty(t, s.vault.seen(atRotate))
		})
	}
	s := newStand(t)
	s.vault.Close()
	requireAdminError(t, s.rotate(badBody), 503, "SERVICE_UNAVAILABLE")
}

func TestRealmsChooseMountAndRole(t *testing.T) {
	s := newStand(t, func(c *Config) {
		c.Realms = map[string]Realm{"default": {"jwt", "dek"}, "partner": {"team/oidc", "guest"}}
	})
	s.vault.on("PUT /v1/auth/team/oidc/login", s.vault.login)
	require.Equal(t, 200, s.rotate(header("realmname", "partner")).Code)
	calls := s.vault.seen("PUT /v1/auth/team/oidc/login")
	require.Len(t, calls, 1)
	require.Equal(t, "guest", calls[0].body["role"])

	require.Equal(t, 200, s.rotate().Code)
	require.Len(t, s.vault.seen(atLogin), 1, "the same JWT in another realm is another login")
}

func TestEachFamilyHasItsOwnHeader(t *testing.T) {
	s := newStand(t)
	bearer, session := header("Authorization", "Bearer "+s.goodJWT()), header("INFA-SESSION-ID", s.goodJWT())
	requireAdminError(t, s.rotate(header("Authorization"), session), 401, "UNAUTHORIZED")
	for _, prefix := range []string{"", "/saas"} {
		w := s.do("GET", prefix+settingsPath, bearer)
		requirePublicError(t, w, 401, "UNAUTHORIZED")
		require.Empty(t, w.Header().Get("WWW-Authenticate"))
		require.Equal(t, 200, s.do("GET", prefix+settingsPath, session).Code)
		require.Equal(t, 200, s.do("GET", prefix+settingsPath, session, header("Authorization", "junk")).Code)
	}
}

func TestSessionIDMayBeAVaultToken(t *testing.T) {
	for _, token := range []string{
		"hvs.CAESIabc_-", "hvb.AAAAAQ", "s.abcdef", "b.AAAA", "root", tenantID, "hvs.abc.ns1", "s.abc.ns1", "b.abc.ns1",
	} {
		s := newStand(t)
		w := s.do("GET", settingsPath, header("INFA-SESSION-ID", token))
		require.Equal(t, 200, w.Code, w.Body.String())
		require.Equal(t, token, s.vault.seen(atSettings)[0].token)
		require.Len(t, s.vault.calls, 1, "no login")
	}
	s := newStand(t)
	for _, junk := range []string{
		"", "a b", "hvs.a/b", "hvs.\u00e9", "hvs.a\x7f", "a.b.c", "bearer x", strings.Repeat("x", maxToken+1),
		segment("{") + "." + segment("{}") + "." + segment("s"),
	} {
		requirePublicError(t, s.do("GET", settingsPath, header("INFA-SESSION-ID", junk)), 401, "UNAUTHORIZED")
	}
	requirePublicError(t, s.do("GET", settingsPath, header("INFA-SESSION-ID", "root", "root")), 401, "UNAUTHORIZED")
	require.Empty(t, s.vault.calls)
}

func TestUnknownVaultToken(t *testing.T) {
	for name, answer := range map[string]http.HandlerFunc{
		"invalid token": reply(403, invalidTokenAnswer),
		"unknown namespace": reply(500,
			`{"errors":["error performing token check: failed to look up namespace from the token: no namespace"]}`),
	} {
		t.Run(name, func(t *testing.T) {
			s := newStand(t)
			token := header("INFA-SESSION-ID", "hvs.gone")
			s.vault.on(atSettings, answer)
			s.vault.on(atSelf, answer)
			requirePublicError(t, s.do("GET", settingsPath, token), 401, "UNAUTHORIZED")
			requirePublicError(t, s.change(token, body("{}")), 401, "UNAUTHORIZED")
			require.Empty(t, s.vault.seen(atLogin), "there is nothing to log in with")
			require.Len(t, s.vault.seen(atSelf), 1)
		})
	}
}

func TestMalformedRequestWithAVaultToken(t *testing.T) {
	s := newStand(t)
	token := header("INFA-SESSION-ID", "hvs.known")
	requirePublicError(t, s.change(token, body("{}")), 400, "INVALID_REQUEST")
	s.vault.on(atSelf, reply(403, `{"errors":["permission denied"]}`))
	requirePublicError(t, s.change(token, body("{}")), 400, "INVALID_REQUEST")
	s.vault.on(atSelf, reply(503, `{"errors":["Vault is sealed"]}`))
	requirePublicError(t, s.change(token, body("{}")), 503, "SERVICE_UNAVAILABLE")
	before := len(s.vault.seen(atSelf))
	require.Equal(t, 200, s.change(token).Code)
	require.Len(t, s.vault.seen(atSelf), before, "a well-formed request needs no extra call")
}
