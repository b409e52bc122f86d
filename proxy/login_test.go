// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package proxy

import (
	"context"
	"crypto/tls"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/vault-plugin-dek/vault-plugin-dek/proxy/vault/vaulttest"
)

const (
	loginPath   = "/saas/public/core/v3/login"
	atUserLogin = "PUT /v1/auth/userpass/login/alice"
)

func userStand(t *testing.T, change ...func(*Config)) *stand {
	t.Helper()
	s := newStand(t, change...)
	s.vault.On(atUserLogin, vaulttest.Reply(200, `{"auth": {"client_token": "hvs.user", "lease_duration": 60,
		"entity_id": "entity-1", "metadata": {"username": "alice"}}}`))
	return s
}

func (s *stand) userLogin(edits ...edit) *httptest.ResponseRecorder {
	return s.do("POST", loginPath, append([]edit{
		header("Content-Type", "application/json"), body(`{"username": "alice", "password": "s3cret"}`),
	}, edits...)...)
}

func TestUserLogin(t *testing.T) {
	s := userStand(t)
	w := s.userLogin(at("127.0.0.1:8080"))
	require.Equal(t, 200, w.Code, w.Body.String())
	require.Equal(t, map[string]any{
		"products": []any{map[string]any{"name": "Vault DEK", "baseApiUrl": "http://127.0.0.1:8080/saas"}},
		"userInfo": map[string]any{
			"sessionId": "hvs.user", "id": "entity-1", "name": "alice", "parentOrgId": "org-1", "orgId": "org-1",
			"orgName": "org-1", "groups": []any{}, "status": "Active",
		},
	}, decode(t, w))
	require.Equal(t, "no-store", w.Header().Get("Cache-Control"))
	require.Equal(t, map[string]any{"password": "s3cret"}, s.vault.Seen(atUserLogin)[0].Body)
	require.Equal(t, "hvs.user", s.vault.Seen(vaulttest.AtSettings)[0].Token)
	require.Equal(t, 200, s.do("POST", "/public/core/v3/login", header("Content-Type", "application/json"),
		body(`{"username": "alice", "password": "s3cret"}`)).Code)
}

func TestUserLoginWithoutTheSettings(t *testing.T) {
	s := userStand(t)
	s.vault.On(vaulttest.AtSettings, vaulttest.Reply(403, `{"errors":["permission denied"]}`))
	info, _ := decode(t, s.userLogin())["userInfo"].(map[string]any)
	for _, field := range []string{"parentOrgId", "orgId", "orgName"} {
		require.Empty(t, info[field])
		require.Contains(t, info, field)
	}
}

// at is the address that a request came in at.
func at(address string) edit {
	return func(r *http.Request) {
		local := net.TCPAddrFromAddrPort(netip.MustParseAddrPort(address))
		*r = *r.WithContext(context.WithValue(r.Context(), http.LocalAddrContextKey, net.Addr(local)))
	}
}

// TestUserLoginBaseURL: a session is sent to where the answer points, so that is never
// where a header alone says.
func TestUserLoginBaseURL(t *testing.T) {
	url := func(s *stand, edits ...edit) any {
		products, _ := decode(t, s.userLogin(edits...))["products"].([]any)
		product, _ := products[0].(map[string]any)
		return product["baseApiUrl"]
	}
	host := func(h string) edit { return func(r *http.Request) { r.Host = h } }
	overTLS := func(r *http.Request) { r.TLS = &tls.ConnectionState{} }
	s := userStand(t, func(c *Config) { c.OwnName = func(name string) bool { return name == "dek.example" } })
	for _, tc := range []struct {
		want  string
		edits []edit
	}{
		{"http://127.0.0.1:8080/saas", []edit{at("127.0.0.1:8080"), host("127.0.0.1:8080")}},
		{"http://localhost:8080/saas", []edit{at("127.0.0.1:8080"), host("localhost:8080")}},
		{"http://localhost:8080/saas", []edit{at("[::1]:8080"), host("localhost:8080")}},
		{"http://localhost/saas", []edit{at("127.0.0.1:80"), host("localhost")}},
		{"http://127.0.0.1:8080/saas", []edit{at("127.0.0.1:8080"), host("localhost:9090")}},
		{"http://127.0.0.1:8080/saas", []edit{at("127.0.0.1:8080"), host("localhost")}},
		{"http://127.0.0.1:8080/saas", []edit{at("127.0.0.1:8080"), host("evil.example")}},
		{"http://127.0.0.1:8080/saas", []edit{at("127.0.0.1:8080"), host("dek.example")}},
		{"http://192.0.2.7:8080/saas", []edit{at("192.0.2.7:8080"), host("localhost:8080")}},
		{"http://192.0.2.7:8080/saas", []edit{at("192.0.2.7:8080"), host("192.0.2.7:8080")}},
		{"https://dek.example/saas", []edit{at("192.0.2.7:8443"), overTLS, host("dek.example")}},
		{"https://dek.example:8443/saas", []edit{at("192.0.2.7:8443"), overTLS, host("dek.example:8443")}},
		{"https://192.0.2.7:8443/saas", []edit{at("192.0.2.7:8443"), overTLS, host("evil.example")}},
		{"https://192.0.2.7:8443/saas", []edit{at("192.0.2.7:8443"), overTLS, host("dek.example:9999")}},
		{"https://192.0.2.7:8443/saas", []edit{at("192.0.2.7:8443"), overTLS, host("dek.example@evil.example")}},
		{"https://192.0.2.7:8443/saas", []edit{at("192.0.2.7:8443"), overTLS, host("evil.example/dek.example")}},
		{"http://127.0.0.1:8080/saas", []edit{at("127.0.0.1:8080"), host(""), header("X-Forwarded-Host", "evil.example")}},
	} {
		require.Equal(t, tc.want, url(s, tc.edits...))
	}
	s = userStand(t, func(c *Config) { c.PublicURL = "https://public.example:8443/" })
	require.Equal(t, "https://public.example:8443/saas", url(s, host("evil.example")))
}

func TestUserLoginRefusals(t *testing.T) {
	s := userStand(t)
	for name, edits := range map[string][]edit{
		"no content type": {header("Content-Type")},
		"no username":     {body(`{"password": "x"}`)},
		"no password":     {body(`{"username": "alice"}`)},
		"empty password":  {body(`{"username": "alice", "password": ""}`)},
		"number":          {body(`{"username": "alice", "password": 5}`)},
		"no JSON":         {body(`username=alice`)},
	} {
		t.Run(name, func(t *testing.T) { requirePublicError(t, s.userLogin(edits...), 400, "INVALID_REQUEST") })
	}
	requirePublicError(t, s.userLogin(body(`{"x": "`+strings.Repeat("x", maxBody)+`"}`)), 413, "PAYLOAD_TOO_LARGE")
	for _, username := range []string{"../../sys/seal", "al/ice", "alice?x", ".alice", "al ice", "alice%2f", strings.Repeat("a", 300)} {
		requirePublicError(t, s.userLogin(body(`{"username": "`+username+`", "password": "x"}`)), 401, "UNAUTHORIZED")
	}
	require.Empty(t, s.vault.Calls())

	for _, tc := range []struct {
		answer http.HandlerFunc
		status int
		code   string
	}{
		{vaulttest.Reply(400, `{"errors":["invalid username or password"]}`), 401, "UNAUTHORIZED"},
		{vaulttest.Reply(403, `{"errors":["permission denied"]}`), 401, "UNAUTHORIZED"},
		{vaulttest.Reply(429, `{"errors":[]}`), 429, "RATE_LIMITED"},
		{vaulttest.Reply(503, `{"errors":["Vault is sealed"]}`), 503, "SERVICE_UNAVAILABLE"},
		{vaulttest.HangUp, 503, "SERVICE_UNAVAILABLE"},
		{vaulttest.Reply(200, `{"auth": {"mfa_requirement": {}}}`), 500, "INTERNAL_ERROR"},
	} {
		s.vault.On(atUserLogin, tc.answer)
		requirePublicError(t, s.userLogin(), tc.status, tc.code)
	}
}
