// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package proxy

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/vault-plugin-dek/vault-plugin-dek/internal/version"
	"github.com/vault-plugin-dek/vault-plugin-dek/proxy/internal/throttle"
	"github.com/vault-plugin-dek/vault-plugin-dek/proxy/vault"
	"github.com/vault-plugin-dek/vault-plugin-dek/proxy/vault/vaulttest"
)

var healthRoutes = []string{"/health", "/api/v1/health", "/api/v1/admin/health"}

func TestHealth(t *testing.T) {
	up := `{"initialized": true, "sealed": false, "standby": %s, "version": "1.21.1"}`
	for _, tc := range []struct {
		name   string
		answer http.HandlerFunc
		status int
	}{
		{"active", vaulttest.Reply(200, strings.ReplaceAll(up, "%s", "false")), 200},
		{"standby", vaulttest.Reply(299, strings.ReplaceAll(up, "%s", "true")), 200},
		{"standby without a leader", vaulttest.Reply(299, strings.ReplaceAll(up, "%s", "true")), 503},
		{"sealed", vaulttest.Reply(299, `{"initialized": true, "sealed": true, "standby": true, "version": "1.21.1"}`), 503},
		{"not initialized", vaulttest.Reply(299, `{"initialized": false, "sealed": true}`), 503},
		{"disaster replica", vaulttest.Reply(299, `{"initialized": true, "replication_dr_mode": "secondary"}`), 503},
		{"fault", vaulttest.Reply(500, `{"errors":["x"]}`), 503},
		{"gateway's page", vaulttest.Reply(200, "<html>"), 503},
		{"hang up", vaulttest.HangUp, 503},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s := newStand(t)
			s.vault.On(vaulttest.AtHealth, tc.answer)
			leader := "http://127.0.0.1:8200"
			if strings.Contains(tc.name, "without a leader") {
				leader = ""
			}
			s.vault.On(vaulttest.AtLeader, vaulttest.Reply(200, `{"ha_enabled": true, "leader_address": "`+leader+`"}`))
			for _, route := range healthRoutes {
				w := s.do("GET", route)
				require.Equal(t, tc.status, w.Code, w.Body.String())
				require.Equal(t, tc.status == 200, decode(t, w)["status"] == "healthy")
			}
			require.Len(t, s.vault.Seen(vaulttest.AtHealth), 1)
		})
	}
}

func TestAdminHealthNamesVaultsState(t *testing.T) {
	s := newStand(t)
	s.vault.On(vaulttest.AtHealth, vaulttest.Reply(299, `{"initialized": true, "sealed": true, "standby": true, "version": "1.21.1"}`))
	require.Equal(t, map[string]any{
		"reachable": true, "initialized": true, "sealed": true, "standby": true, "version": "1.21.1", "serving": false,
	}, decode(t, s.do("GET", "/api/v1/admin/health"))["vault"])
	require.NotContains(t, decode(t, s.do("GET", "/health")), "vault")
	about, _ := decode(t, s.do("GET", "/api/v1/admin/health"))["proxy"].(map[string]any)
	require.Equal(t, version.Version(), about["version"])
	require.Equal(t, version.Commit(), about["commit"])

	s.vault.Close()
	s.clock.advance(healthAge)
	require.Equal(t, map[string]any{
		"reachable": false, "initialized": nil, "sealed": nil, "standby": nil, "version": nil, "serving": false,
	}, decode(t, s.do("GET", "/api/v1/admin/health"))["vault"])
}

func TestHealthDoesNotHammerVault(t *testing.T) {
	s := newStand(t)
	var wg sync.WaitGroup
	for range 20 {
		wg.Go(func() { s.do("GET", "/health") })
	}
	wg.Wait()
	require.Len(t, s.vault.Seen(vaulttest.AtHealth), 1)
	s.clock.advance(healthAge - time.Millisecond)
	s.do("GET", "/health")
	require.Len(t, s.vault.Seen(vaulttest.AtHealth), 1)
	s.clock.advance(time.Millisecond)
	s.do("GET", "/health")
	require.Len(t, s.vault.Seen(vaulttest.AtHealth), 2)
	s.clock.advance(-time.Hour)
	s.do("GET", "/health")
	require.Len(t, s.vault.Seen(vaulttest.AtHealth), 3, "a clock set back does not freeze the answer")
}

// TestHealthWhileNoAuditDeviceCanBeWritten: Vault then fails every request, and says
// nothing of it in its health.
func TestHealthWhileNoAuditDeviceCanBeWritten(t *testing.T) {
	s := newStand(t)
	require.Equal(t, 200, s.do("GET", "/health").Code)
	s.vault.On(vaulttest.AtMounts, vaulttest.Reply(500, `{"errors":["internal error"]}`))
	s.clock.advance(servesAge)
	require.Equal(t, 503, s.do("GET", "/health").Code)
	w := s.do("GET", "/api/v1/admin/health")
	require.Equal(t, 503, w.Code)
	state, _ := decode(t, w)["vault"].(map[string]any)
	require.Equal(t, false, state["sealed"])
	require.Equal(t, false, state["serving"])
	s.vault.On(vaulttest.AtMounts, vaulttest.Reply(429, `{"errors":["quota"]}`))
	s.clock.advance(healthAge)
	require.Equal(t, 200, s.do("GET", "/health").Code, "it shows soon that the fault is gone")
	before := len(s.vault.Seen(vaulttest.AtMounts))
	for range 9 {
		s.clock.advance(healthAge)
		s.do("GET", "/health")
	}
	require.Len(t, s.vault.Seen(vaulttest.AtMounts), before, "each leaves lines in Vault's audit log, so there are few")
}

// TestHealthOfSeveralRealms: one organization's sealed Vault takes nobody else's
// proxy away.
func TestHealthOfSeveralRealms(t *testing.T) {
	s, sealed := newStand(t), vaulttest.New(t)
	sealed.On(vaulttest.AtHealth, vaulttest.Reply(299, `{"initialized": true, "sealed": true, "version": "1.21.1"}`))
	require.NoError(t, s.SetRealms(map[string]Realm{
		"one": {Vault: testClient(t, s.vault, vault.Config{})}, "two": {Vault: testClient(t, sealed, vault.Config{})},
	}))
	require.Equal(t, 200, s.do("GET", "/health").Code)
	realms, _ := decode(t, s.do("GET", "/api/v1/admin/health"))["realms"].(map[string]any)
	require.Equal(t, true, realms["one"].(map[string]any)["serving"])
	require.Equal(t, false, realms["two"].(map[string]any)["serving"])
	s.vault.Close()
	s.clock.advance(healthAge)
	require.Equal(t, 503, s.do("GET", "/health").Code)
}

// TestMetricsSayWhetherVaultServes: of each realm, and without asking Vault for each
// scrape.
func TestMetricsSayWhetherVaultServes(t *testing.T) {
	s, other := newStand(t), vaulttest.New(t)
	require.NoError(t, s.SetRealms(map[string]Realm{
		"one": {Vault: testClient(t, s.vault, vault.Config{})}, "two": {Vault: testClient(t, other, vault.Config{})},
	}))
	up := func(one, two string) {
		t.Helper()
		body := s.do("GET", "/metrics").Body.String()
		require.Contains(t, body, `dek_proxy_vault_up{realm="one"} `+one+"\n")
		require.Contains(t, body, `dek_proxy_vault_up{realm="two"} `+two+"\n")
	}
	up("1", "1")
	up("1", "1")
	require.Len(t, s.vault.Seen(vaulttest.AtHealth), 1)
	other.On(vaulttest.AtHealth, vaulttest.Reply(299, `{"initialized": true, "sealed": true, "version": "1.21.1"}`))
	s.clock.advance(healthAge)
	up("1", "0")
	s.vault.Close()
	s.clock.advance(healthAge)
	up("0", "0")
	require.NoError(t, s.SetRealms(map[string]Realm{"two": {Vault: testClient(t, other, vault.Config{})}}))
	require.NotContains(t, s.do("GET", "/metrics").Body.String(), `realm="one"`)
}

func TestAdminListener(t *testing.T) {
	s := newStand(t, func(c *Config) { c.SeparateAdmin = true })
	for _, path := range []string{"/metrics", "/api/v1/admin/health"} {
		requireAdminError(t, s.do("GET", path), 404, "NOT_FOUND")
	}
	require.Equal(t, 200, s.do("GET", "/health").Code)
	admin := func(method, path string) int {
		w := httptest.NewRecorder()
		s.Admin().ServeHTTP(w, httptest.NewRequest(method, path, strings.NewReader("")))
		return w.Code
	}
	for _, path := range []string{"/metrics", "/api/v1/admin/health", "/health", "/api/v1/health"} {
		require.Equal(t, 200, admin("GET", path), path)
	}
	for _, path := range []string{rotatePath, loginPath, logoutPath, settingsPath, "/openapi.json"} {
		require.Equal(t, 404, admin("POST", path), path)
	}
}

func TestMetrics(t *testing.T) {
	s := newStand(t)
	s.rotate()
	s.rotate()
	s.vault.On(vaulttest.AtLogin, vaulttest.Reply(400, `{"errors":["x"]}`))
	s.rotate(header("Authorization", "Bearer "+jwt(map[string]any{"sub": "other"})))
	s.do("GET", rotatePath+"/user-secret")
	s.do("BREW", "/user-secret")
	w := s.do("GET", "/metrics")
	require.Equal(t, 200, w.Code)
	require.Contains(t, w.Header().Get("Content-Type"), "text/plain")
	text := w.Body.String()
	for _, line := range []string{
		`dek_proxy_requests_total{code="200",method="POST",route="/api/v1/admin/dek/rotate"} 2`,
		`dek_proxy_requests_total{code="401",method="POST",route="/api/v1/admin/dek/rotate"} 1`,
		`dek_proxy_requests_total{code="401",method="GET",route="/api/v1/admin/dek/rotate/{rotationId}"} 1`,
		`dek_proxy_requests_total{code="404",method="other",route="unmatched"} 1`,
		`dek_proxy_request_duration_seconds_count{method="POST",route="/api/v1/admin/dek/rotate"} 3`,
		`dek_proxy_logins_total{result="ok"} 1`,
		`dek_proxy_logins_total{result="refused"} 1`,
		`dek_proxy_logins_total{result="unavailable"} 0`,
		`dek_proxy_build_info{commit="`,
		`dek_proxy_token_cache_lookups_total{result="hit"} 1`,
		`dek_proxy_token_cache_lookups_total{result="miss"} 2`,
	} {
		require.Contains(t, text, line)
	}
	require.NotContains(t, text, "user-secret")
}

func TestLoginResults(t *testing.T) {
	for want, err := range map[string]error{
		loginOK:          nil,
		loginRefused:     &vault.Error{Status: 400},
		loginRateLimited: &vault.Error{Status: 429},
		loginTimeout:     vault.ErrTimeout,
		loginThrottled:   &throttle.Refused{},
		loginUnavailable: vault.ErrUnreachable,
	} {
		require.Equal(t, want, loginResult(err))
	}
	for _, says := range []string{"missing name in alias", "invalid alias metadata: email: value is too long"} {
		require.Equal(t, loginRefused, loginResult(&vault.Error{Status: 500, Messages: []string{says}}))
	}
	require.Equal(t, loginUnavailable, loginResult(&vault.Error{Status: 500, Messages: []string{"anything else"}}))
	require.Equal(t, loginUnavailable, loginResult(&vault.Error{Status: 503}))
	require.Equal(t, loginUnavailable, loginResult(errors.New("odd")))
}
