// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package proxy

import (
	"bytes"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/google/uuid"
	"github.com/hashicorp/go-hclog"
	"github.com/stretchr/testify/require"

	"github.com/vault-plugin-dek/vault-plugin-dek/proxy/vault"
	"github.com/vault-plugin-dek/vault-plugin-dek/proxy/vault/vaulttest"
)

func TestUnknownRoutes(t *testing.T) {
	s := newStand(t)
	for _, target := range []string{
		"/", "/api", "/api/v1", "/x", "/api/v1/admin/dek/rotate/", "/api/v1/admin/dek/rotate/a/b", "/health/",
		"//health", "/api//v1/health", "/api/v1/../v1/health", "/./health", "/%2e%2e/health", "/API/v1/health",
		"/api/v1/admin/dek/rotate/..%2Fx", "/metrics/x",
	} {
		w := s.do("GET", target)
		requireAdminError(t, w, 404, "NOT_FOUND")
		require.Empty(t, w.Header().Get("Location"))
	}
	for _, target := range []string{
		"/public", "/public/x", "/saas", "/saas/", "/saas//public/core/v3/login", settingsPath + "/", "/public/../public/x",
	} {
		requirePublicError(t, s.do("POST", target), 404, "NOT_FOUND")
	}
	r := httptest.NewRequest("OPTIONS", "/", http.NoBody)
	r.URL.Path, r.RequestURI = "*", "*"
	w := httptest.NewRecorder()
	s.ServeHTTP(w, r)
	requireAdminError(t, w, 404, "NOT_FOUND")
	r = httptest.NewRequest("CONNECT", "/", http.NoBody)
	r.URL.Path = ""
	w = httptest.NewRecorder()
	s.ServeHTTP(w, r)
	requireAdminError(t, w, 404, "NOT_FOUND")
}

func TestUnknownMethods(t *testing.T) {
	s := newStand(t)
	for _, tc := range []struct{ method, target, allow string }{
		{"GET", rotatePath, "POST"},
		{"OPTIONS", rotatePath, "POST"},
		{"DELETE", rotatePath + "/" + rotationID, "GET, HEAD"},
		{"POST", "/health", "GET, HEAD"},
		{"PUT", "/metrics", "GET, HEAD"},
		{"CONNECT", "/health", "GET, HEAD"},
		{"BREW", "/api/v1/admin/health", "GET, HEAD"},
	} {
		w := s.do(tc.method, tc.target)
		requireAdminError(t, w, 405, "METHOD_NOT_ALLOWED")
		require.Equal(t, tc.allow, w.Header().Get("Allow"))
	}
	for _, prefix := range []string{"", "/saas"} {
		w := s.do("PUT", prefix+settingsPath)
		requirePublicError(t, w, 405, "METHOD_NOT_ALLOWED")
		require.Equal(t, "GET, HEAD, PATCH, POST", w.Header().Get("Allow"))
		w = s.do("GET", prefix+"/public/core/v3/login")
		requirePublicError(t, w, 405, "METHOD_NOT_ALLOWED")
		require.Equal(t, "POST", w.Header().Get("Allow"))
	}
	require.Empty(t, s.vault.Calls())
}

func TestHeadIsGetWithoutABody(t *testing.T) {
	s := newStand(t)
	server := httptest.NewServer(s)
	defer server.Close()
	for _, target := range []string{"/health", "/metrics"} {
		resp, err := http.Head(server.URL + target)
		require.NoError(t, err)
		require.NoError(t, resp.Body.Close())
		require.Equal(t, 200, resp.StatusCode)
	}
}

func TestRequestID(t *testing.T) {
	s := newStand(t)
	for _, sane := range []string{"a", "A-1_.z", strings.Repeat("x", 128)} {
		require.Equal(t, sane, s.do("GET", "/health", header("X-Request-Id", sane)).Header().Get("X-Request-Id"))
	}
	for _, odd := range []string{"", "a b", "a\nb", "é", strings.Repeat("x", 129), `"`, "{}"} {
		got := s.do("GET", "/health", header("X-Request-Id", odd)).Header().Get("X-Request-Id")
		require.NoError(t, uuid.Validate(got), odd)
	}
	for _, w := range []*httptest.ResponseRecorder{s.do("GET", "/x"), s.do("PUT", "/health"), s.rotate(), s.do("GET", "/metrics")} {
		require.NotEmpty(t, w.Header().Get("X-Request-Id"))
	}
	object := requirePublicError(t, s.do("GET", settingsPath, header("X-Request-Id", "mine")), 401, "UNAUTHORIZED")
	require.Equal(t, "mine", object["requestId"])
}

func TestAnswersAreNotStored(t *testing.T) {
	s := newStand(t)
	for _, w := range []*httptest.ResponseRecorder{s.rotate(), s.change(), s.do("GET", "/x"), s.do("GET", "/health")} {
		require.Equal(t, "no-store", w.Header().Get("Cache-Control"))
		require.Equal(t, "nosniff", w.Header().Get("X-Content-Type-Options"))
	}
}

// logged returns the lines of a stand that logs.
func logged(t *testing.T, change ...func(*Config)) (*stand, func() []map[string]any) {
	t.Helper()
	var out bytes.Buffer
	s := newStand(t, append(change, func(c *Config) {
		c.Logger = hclog.New(&hclog.LoggerOptions{Output: &out, JSONFormat: true, Level: hclog.Trace})
	})...)
	return s, func() []map[string]any {
		for _, secret := range []string{"hvs.", s.goodJWT(), "eyJ", "user-secret", "s3cret"} {
			require.NotContains(t, out.String(), secret)
		}
		var lines []map[string]any
		for line := range strings.Lines(out.String()) {
			var fields map[string]any
			require.NoError(t, json.Unmarshal([]byte(line), &fields))
			lines = append(lines, fields)
		}
		return lines
	}
}

func TestAccessLog(t *testing.T) {
	s, lines := logged(t)
	s.rotate(header("X-Request-Id", "r-1"), header("x-tenantid", strings.ToUpper(tenantID)))
	s.do("GET", "/some/path/user-secret?token=user-secret", header("x-tenantid", "user-secret"))
	s.do("POST", "/public/core/v3/login", header("Content-Type", "application/json"), body(`{"username":"a","password":"s3cret"}`))
	got := lines()
	require.Len(t, got, 3)
	require.Equal(t, rotatePath, got[0]["route"])
	require.Equal(t, "POST", got[0]["method"])
	require.InDelta(t, 200, got[0]["status"], 0)
	require.Equal(t, "r-1", got[0]["request_id"])
	require.Equal(t, tenantID, got[0]["tenant_id"])
	require.Contains(t, got[0], "duration_ms")
	require.Equal(t, "unmatched", got[1]["route"])
	require.Empty(t, got[1]["tenant_id"])
}

func TestFaultsAreLoggedNotShown(t *testing.T) {
	s, lines := logged(t)
	s.vault.On(vaulttest.AtRotate, vaulttest.Reply(500, `{"errors":["disk on fire"]}`))
	w := s.rotate()
	require.NotContains(t, w.Body.String(), "fire")
	var found bool
	for _, line := range lines() {
		found = found || (line["@message"] == "request failed" && strings.Contains(line["error"].(string), "disk on fire"))
	}
	require.True(t, found)
}

func TestPanicsAreAnswered(t *testing.T) {
	for name, with := range map[string]any{"text": "user-secret", "error": http.ErrBodyNotAllowed, "runtime": nil} {
		t.Run(name, func(t *testing.T) {
			s, lines := logged(t)
			s.mux.Handle("/public/panic", s.handle(func(http.ResponseWriter, *http.Request) error {
				if with == nil {
					none := []int{}
					_ = none[len(none)]
				}
				panic(with)
			}))
			w := s.do("GET", "/public/panic")
			requirePublicError(t, w, 500, "INTERNAL_ERROR")
			require.Equal(t, "panic", lines()[0]["@message"])
			require.Equal(t, 200, s.rotate().Code, "and the proxy goes on")
		})
	}
	s, lines := logged(t)
	s.mux.Handle("/abort", s.handle(func(http.ResponseWriter, *http.Request) error { panic(http.ErrAbortHandler) }))
	require.PanicsWithValue(t, http.ErrAbortHandler, func() { s.do("GET", "/abort") })
	require.Len(t, lines(), 1)
}

func TestPanicInALoginIsAnswered(t *testing.T) {
	s := newStand(t)
	s.use((*vault.Client)(nil))
	requireAdminError(t, s.rotate(), 500, "INTERNAL_ERROR")
}

// TestVaultIsToldOfTheRequest: every call says which request it is for, and for whom.
func TestVaultIsToldOfTheRequest(t *testing.T) {
	s := newStand(t)
	s.use(testClient(t, s.vault, vault.Config{UserAgent: "dek-proxy/v1.2.3"}))
	require.Equal(t, 200, s.rotate(header("X-Request-Id", "r-1"), header("X-Forwarded-For", "198.51.100.9")).Code)
	calls := s.vault.Calls()
	require.Len(t, calls, 3, "login, entity, rotate")
	for _, call := range calls {
		require.Equal(t, "r-1", call.Header.Get("X-Request-Id"), call.Route)
		require.Equal(t, []string{"192.0.2.1"}, call.Header.Values("X-Forwarded-For"), "a stranger's header is not passed on")
		require.Equal(t, "dek-proxy/v1.2.3", call.Header.Get("User-Agent"))
	}
}

// TestLogSaysWhoAndWhy: a refused request can be traced without a secret.
func TestLogSaysWhoAndWhy(t *testing.T) {
	s, lines := logged(t)
	s.rotate()
	s.rotate(header("Authorization", "Bearer junk"))
	s.vault.On(vaulttest.AtLogin, vaulttest.Reply(400, `{"errors":["error validating token eyJhbGciOiJ.eyJzdWIi.c2ln of hvs.CAESabcdefgh: invalid signature"]}`))
	s.rotate(s.nobody(1))
	s.vault.On(vaulttest.AtRotate, vaulttest.Reply(400, `{"errors":["user-secret"]}`))
	s.rotate()
	got := lines()
	require.Len(t, got, 4)
	for _, line := range got {
		require.Equal(t, "192.0.2.1", line["client"])
	}
	require.Equal(t, "entity-75", got[0]["entity_id"], "Vault knows who that is")
	require.Empty(t, got[0]["reason"])
	require.Equal(t, "the token is not a JWT", got[1]["reason"])
	require.Empty(t, got[1]["entity_id"], "who nobody has verified is not named")
	require.Contains(t, got[2]["reason"], "invalid signature")
	require.Empty(t, got[3]["reason"], "which may quote the request")
}
