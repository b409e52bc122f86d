// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

//go:build acceptance

package acceptance

import (
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/vault-plugin-dek/vault-plugin-dek/internal/devstack"
)

var healthPaths = []string{"/health", "/api/v1/health", "/api/v1/admin/health"}

func TestContractProxyHealth(t *testing.T) {
	s := shared(t)
	for _, path := range healthPaths {
		a := callProxy(t, s, http.MethodGet, path, nil)
		assert.Equal(t, http.StatusOK, a.Status, path)
		assert.NotEmpty(t, a.Header.Get("X-Request-Id"), path)
	}
	a := callProxy(t, s, http.MethodGet, "/api/v1/admin/health", nil)
	assert.Contains(t, string(a.Raw), `"sealed":false`)
	assert.Contains(t, string(a.Raw), `"1.`, "Vault's version")
	about, _ := a.Body["proxy"].(map[string]any)
	assert.NotEmpty(t, about["version"])
	assert.NotEmpty(t, about["commit"])

	a = callProxy(t, s, http.MethodGet, "/metrics", nil)
	require.Equal(t, http.StatusOK, a.Status)
	assert.Contains(t, a.Header.Get("Content-Type"), "text/plain")
	assert.Contains(t, string(a.Raw), "# TYPE ")
}

// TestContractProxySealed seals Vault, ends it, and brings it back.
func TestContractProxySealed(t *testing.T) {
	s := start(t, devstack.Options{Storage: devstack.Raft})
	tenant := newTenant(t, s)
	jwt, late := mint(t, s, "", "super_admin"), mint(t, s, "", "super_admin")
	settings := func(session string) answer {
		return callProxy(t, s, http.MethodGet, settingsPaths[0], nil, "INFA-SESSION-ID", session)
	}
	require.Equal(t, http.StatusOK, settings(jwt).Status, "its token is cached from here on")
	before := readDEK(t, s, tenant)

	down := func(t *testing.T) {
		for _, path := range healthPaths { // an answer may be a second old
			require.Eventually(t, func() bool {
				return callProxy(t, s, http.MethodGet, path, nil).Status == http.StatusServiceUnavailable
			}, time.Minute, rotationTick, path)
		}
		for _, token := range []string{jwt, late} {
			a := postRotate(t, s, token, tenant)
			require.Equal(t, http.StatusServiceUnavailable, a.Status, "%s", a.Raw)
			apiError(t, a, http.StatusServiceUnavailable, a.Body["error"].(map[string]any)["message"].(string))
			publicError(t, settings(token), http.StatusServiceUnavailable)
		}
		assert.Equal(t, http.StatusOK, callProxy(t, s, http.MethodGet, "/metrics", nil).Status)
	}
	up := func(t *testing.T) {
		for _, path := range healthPaths {
			require.Eventually(t, func() bool {
				return callProxy(t, s, http.MethodGet, path, nil).Status == http.StatusOK
			}, time.Minute, rotationTick, path)
		}
		assert.Equal(t, before, readDEK(t, s, tenant), "nothing has changed")
		assert.Equal(t, http.StatusOK, settings(jwt).Status)
		assert.Equal(t, http.StatusOK, settings(late).Status)
	}
	t.Run("sealed", func(t *testing.T) {
		require.NoError(t, s.Seal(t.Context()))
		down(t)
		a := callProxy(t, s, http.MethodGet, "/api/v1/admin/health", nil)
		assert.Contains(t, string(a.Raw), `"sealed":true`)
		require.NoError(t, s.Unseal(t.Context()))
		up(t)
	})
	t.Run("out of reach", func(t *testing.T) {
		s.KillVault()
		down(t)
		require.NoError(t, s.RestartVault(t.Context()))
		up(t)
	})
	t.Run("a quota", func(t *testing.T) {
		a := callRoot(t, s, http.MethodPost, "sys/quotas/config", map[string]any{"enable_rate_limit_response_headers": true})
		require.Equal(t, http.StatusNoContent, a.Status, a.errors())
		a = callRoot(t, s, http.MethodPost, "sys/quotas/rate-limit/few", map[string]any{"path": "dek/", "rate": 1, "interval": "1h"})
		require.Equal(t, http.StatusNoContent, a.Status, a.errors())
		var limited answer
		require.Eventually(t, func() bool {
			limited = settings(jwt)
			return limited.Status != http.StatusOK
		}, time.Minute, rotationTick)
		publicError(t, limited, http.StatusTooManyRequests)
		assert.NotEmpty(t, limited.Header.Get("Retry-After"))
		a = postRotate(t, s, jwt, tenant)
		require.Equal(t, http.StatusTooManyRequests, a.Status, "%s", a.Raw)
		assert.NotEmpty(t, a.Header.Get("Retry-After"))
	})
}
