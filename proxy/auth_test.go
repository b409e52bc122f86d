// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package proxy

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/vault-plugin-dek/vault-plugin-dek/proxy/vault"
	"github.com/vault-plugin-dek/vault-plugin-dek/proxy/vault/vaulttest"
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
	require.Empty(t, s.vault.Calls(), "none of these is worth asking Vault")
}

// redirect is what a standby says that does not forward, and its leader meanwhile too.
func redirect(status int, to string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Location", to)
		w.WriteHeader(status)
	}
}

func TestVaultsAnswersToALogin(t *testing.T) {
	for _, tc := range []struct {
		name   string
		answer http.HandlerFunc
		status int
		code   string
	}{
		{"wrong signature", vaulttest.Reply(400, `{"errors":["error validating token: invalid signature"]}`), 401, "UNAUTHORIZED"},
		{"not mounted", vaulttest.Reply(403, `{"errors":["permission denied"]}`), 401, "UNAUTHORIZED"},
		{"not found", vaulttest.Reply(404, `{"errors":[]}`), 401, "UNAUTHORIZED"},
		{"keys out of reach", vaulttest.Reply(500, `{"errors":["error fetching keys"]}`), 503, "SERVICE_UNAVAILABLE"},
		{"sealed", vaulttest.Reply(503, `{"errors":["Vault is sealed"]}`), 503, "SERVICE_UNAVAILABLE"},
		{"redirect to itself", redirect(307, "/v1/auth/jwt/login"), 503, "SERVICE_UNAVAILABLE"},
		{"redirect elsewhere", redirect(302, "http://127.0.0.1:1/"), 503, "SERVICE_UNAVAILABLE"},
		{"redirect that is not followed", redirect(308, "/v1/x"), 503, "SERVICE_UNAVAILABLE"},
		{"replica", vaulttest.Reply(473, `{"errors":[]}`), 503, "SERVICE_UNAVAILABLE"},
		{"hang up", vaulttest.HangUp, 503, "SERVICE_UNAVAILABLE"},
		{"rate limit", vaulttest.Reply(429, `{"errors":["quota"]}`), 429, "RATE_LIMITED"},
		{"no token", vaulttest.Reply(200, `{"auth": null}`), 500, "INTERNAL_ERROR"},
		{"not JSON", vaulttest.Reply(200, `<html>`), 500, "INTERNAL_ERROR"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s := newStand(t)
			s.vault.On(vaulttest.AtLogin, tc.answer)
			w := s.rotate(badBody)
			requireAdminError(t, w, tc.status, tc.code)
			require.NotContains(t, w.Body.String(), "signature")
			if !strings.HasPrefix(tc.name, "redirect") {
				require.Len(t, s.vault.Seen(vaulttest.AtLogin), 1, "a login is not retried")
			}
			require.Empty(t, s.vault.Seen(vaulttest.AtRotate))
		})
	}
	s := newStand(t)
	s.vault.Close()
	requireAdminError(t, s.rotate(badBody), 503, "SERVICE_UNAVAILABLE")
}

func TestRealmsChooseMountAndRole(t *testing.T) {
	s := newStand(t)
	require.NoError(t, s.SetRealms(map[string]Realm{
		"default": {Vault: testClient(t, s.vault, vault.Config{})},
		"partner": {Vault: testClient(t, s.vault, vault.Config{AuthMount: "team/oidc", Role: "guest"})},
	}))
	s.vault.On("PUT /v1/auth/team/oidc/login", s.vault.Login)
	require.Equal(t, 200, s.rotate(header("realmname", "partner")).Code)
	calls := s.vault.Seen("PUT /v1/auth/team/oidc/login")
	require.Len(t, calls, 1)
	require.Equal(t, "guest", calls[0].Body["role"])

	require.Equal(t, 200, s.rotate().Code)
	require.Len(t, s.vault.Seen(vaulttest.AtLogin), 1, "the same JWT in another realm is another login")
}

// TestRealmsAreOrganizations: each realm has its own Vault, engine and logins.
func TestRealmsAreOrganizations(t *testing.T) {
	s, other := newStand(t), vaulttest.New(t)
	require.NoError(t, s.SetRealms(map[string]Realm{
		"default": {Vault: testClient(t, s.vault, vault.Config{})},
		"other":   {Vault: testClient(t, other, vault.Config{Mount: "keys", UserpassMount: "people"})},
	}))
	realm := header("realmname", "other")
	other.On("PUT /v1/keys/tenants/"+tenantID+"/dek/rotate", vaulttest.Reply(200, vaulttest.RotationData))
	other.On("PUT /v1/auth/people/login/alice", vaulttest.Reply(200, `{"auth": {"client_token": "hvs.other"}}`))
	require.Equal(t, 200, s.rotate(realm).Code)
	w := s.userLogin(realm)
	require.Equal(t, 200, w.Code, w.Body.String())
	require.Contains(t, w.Body.String(), "hvs.other")
	requirePublicError(t, s.userLogin(header("realmname", "unknown")), 401, "UNAUTHORIZED")
	require.Empty(t, s.vault.Calls())
}

func TestReloadedRealms(t *testing.T) {
	s, other := newStand(t), vaulttest.New(t)
	require.Equal(t, 200, s.rotate().Code)
	s.use(testClient(t, s.vault, vault.Config{}))
	require.Equal(t, 200, s.rotate().Code)
	require.Len(t, s.vault.Seen(vaulttest.AtLogin), 1, "what has not changed keeps its logins")
	s.use(testClient(t, other, vault.Config{}))
	require.Equal(t, 200, s.rotate().Code)
	require.Len(t, other.Seen(vaulttest.AtLogin), 1, "another Vault does not get this one's tokens")
	require.Error(t, s.SetRealms(nil))
	require.Error(t, s.SetRealms(map[string]Realm{"": {Vault: testClient(t, other, vault.Config{})}}))
	require.Error(t, s.SetRealms(map[string]Realm{"x": {}}))
	require.Equal(t, 200, s.rotate().Code, "a refused table changes nothing")
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
		require.Equal(t, token, s.vault.Seen(vaulttest.AtSettings)[0].Token)
		require.Len(t, s.vault.Calls(), 1, "no login")
	}
	s := newStand(t)
	for _, junk := range []string{
		"", "a b", "hvs.a/b", "hvs.\u00e9", "hvs.a\x7f", "a.b.c", "bearer x", strings.Repeat("x", maxToken+1),
		segment("{") + "." + segment("{}") + "." + segment("s"),
	} {
		requirePublicError(t, s.do("GET", settingsPath, header("INFA-SESSION-ID", junk)), 401, "UNAUTHORIZED")
	}
	requirePublicError(t, s.do("GET", settingsPath, header("INFA-SESSION-ID", "root", "root")), 401, "UNAUTHORIZED")
	require.Empty(t, s.vault.Calls())
}

func TestUnknownVaultToken(t *testing.T) {
	for name, answer := range map[string]http.HandlerFunc{
		"invalid token":          vaulttest.Reply(403, vaulttest.InvalidToken),
		"OpenBao":                vaulttest.Reply(403, vaulttest.BareDenial),
		"too large":              vaulttest.Reply(431, `{"errors":["authentication token exceeds maximum allowed header size"]}`),
		"too large, Vault 2.0.0": vaulttest.Reply(400, `{"errors":["authentication token exceeds maximum allowed header size"]}`),
		"unknown namespace": vaulttest.Reply(500,
			`{"errors":["error performing token check: failed to look up namespace from the token: no namespace"]}`),
	} {
		t.Run(name, func(t *testing.T) {
			s := newStand(t)
			token := header("INFA-SESSION-ID", "hvs.gone")
			s.vault.On(vaulttest.AtSettings, answer)
			s.vault.On(vaulttest.AtSelf, answer)
			requirePublicError(t, s.do("GET", settingsPath, token), 401, "UNAUTHORIZED")
			requirePublicError(t, s.change(header("INFA-SESSION-ID", "hvs.another"), body("{}")), 401, "UNAUTHORIZED")
			require.Empty(t, s.vault.Seen(vaulttest.AtLogin), "there is nothing to log in with")
			require.NotEmpty(t, s.vault.Seen(vaulttest.AtSelf))
		})
	}
}

func TestMalformedRequestWithAVaultToken(t *testing.T) {
	s := newStand(t)
	token := header("INFA-SESSION-ID", "hvs.known")
	requirePublicError(t, s.change(token, body("{}")), 400, "INVALID_REQUEST")
	s.vault.On(vaulttest.AtSelf, vaulttest.Reply(403, vaulttest.Denied))
	requirePublicError(t, s.change(token, body("{}")), 400, "INVALID_REQUEST")
	s.vault.On(vaulttest.AtSelf, vaulttest.Reply(503, `{"errors":["Vault is sealed"]}`))
	requirePublicError(t, s.change(token, body("{}")), 503, "SERVICE_UNAVAILABLE")
	before := len(s.vault.Seen(vaulttest.AtSelf))
	require.Equal(t, 200, s.change(token).Code)
	require.Len(t, s.vault.Seen(vaulttest.AtSelf), before, "a well-formed request needs no extra call")
}
