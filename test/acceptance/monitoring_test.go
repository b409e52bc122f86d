// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

//go:build acceptance

package acceptance

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/vault-plugin-dek/vault-plugin-dek/internal/devstack"
	"github.com/vault-plugin-dek/vault-plugin-dek/internal/monitoringtest"
)

const (
	monitoringLimit = 45 * time.Second
	monitoringTick  = 250 * time.Millisecond
)

// TestMonitoring has a Prometheus scrape a real Vault and proxy with docs/monitoring's
// policy and configuration. While all is well every query of the dashboard has an answer,
// every figure that a rule names is there, and no alert fires. Then each incident fires its
// alert.
func TestMonitoring(t *testing.T) {
	monitoringtest.Tool(t, "prometheus")
	s := start(t, devstack.Options{RawStorage: true})
	owner := newTransitOwner(t, s)
	f := newCrowd(t, s, "dek", 6)
	succeeded(t, callRoot(t, s, http.MethodPut, "dek/providers/owner", owner.provider()))
	succeeded(t, callRoot(t, s, http.MethodPut, "dek/kek/rotate", map[string]any{"provider": "owner"}))
	f.untilKEK(t, "completed")
	waitRotation(t, s, f.ids[0], rotate(t, s, f.ids[0]), "completed")
	prometheus := monitoringtest.Start(t, strings.TrimPrefix(s.VaultAddr(), "http://"), strings.TrimPrefix(s.ProxyURL(), "http://"), scraper(t, s))
	m := &monitored{s, prometheus, f}

	m.everyQueryAnswers(t)
	firing, err := prometheus.Firing(t.Context())
	require.NoError(t, err)
	require.Empty(t, firing, "all is well")

	t.Run("a rotation fails", func(t *testing.T) {
		m.spoilPage(t, f.ids[1])
		waitRotation(t, s, f.ids[1], rotate(t, s, f.ids[1]), "failed")
		m.fires(t, "DEKRotationFailed")
	})
	t.Run("a holder reports what cannot be true", func(t *testing.T) {
		succeeded(t, f.call(t, 2, http.MethodPut, "/holders/table", map[string]any{}))
		refused(t, f.call(t, 2, http.MethodPut, "/holders/table/report", map[string]any{"oldest_version": 9}), http.StatusBadRequest)
		m.fires(t, "DEKHolderReportsRefused")
	})
	t.Run("a provider denies, and the fleet is overdue", func(t *testing.T) {
		owner.deny(t)
		succeeded(t, callRoot(t, s, http.MethodPut, "dek/rotations", map[string]any{"all": true, "reason": "a leak"}))
		require.Eventually(t, func() bool { // once the lease has ended
			return f.call(t, 3, http.MethodGet, "/secrets/own", nil).Status == http.StatusFailedDependency
		}, monitoringLimit, monitoringTick)
		m.fires(t, "DEKProviderDenied", "DEKTenantsOverdue", "DEKFleetOverdue")
	})
	t.Run("the proxy is without Vault", func(t *testing.T) {
		require.NoError(t, s.Seal(t.Context()))
		m.fires(t, "DEKProxyWithoutVault", "DEKMetricsMissing")
	})
}

// scraper is a token that has docs/monitoring's policy alone.
func scraper(t *testing.T, s *devstack.Stack) (token string) {
	t.Helper()
	a := callRoot(t, s, http.MethodPut, "sys/policies/acl/dek-metrics", map[string]any{"policy": string(monitoringtest.Read(t, "policy.hcl"))})
	require.Equal(t, http.StatusNoContent, a.Status, a.errors())
	a = callRoot(t, s, http.MethodPost, "auth/token/create-orphan", map[string]any{
		"policies": []string{"dek-metrics"}, "no_default_policy": true, "period": "24h",
	})
	auth, _ := a.Body["auth"].(map[string]any)
	token, _ = auth["client_token"].(string)
	require.NotEmpty(t, token, a.errors())
	require.Equal(t, http.StatusForbidden, call(t, s, http.MethodGet, "dek/status", token, nil).Status)
	return token
}

// monitored is a stack that a Prometheus scrapes.
type monitored struct {
	s          *devstack.Stack
	prometheus *monitoringtest.Server
	crowd      *crowd
}

func (m *monitored) fires(t *testing.T, alerts ...string) {
	t.Helper()
	require.EventuallyWithT(t, func(c *assert.CollectT) {
		firing, err := m.prometheus.Firing(t.Context())
		if !assert.NoError(c, err) {
			return
		}
		for _, name := range alerts {
			assert.True(c, firing[name], "%s does not fire: %v", name, firing)
		}
	}, monitoringLimit, monitoringTick)
}

// everyQueryAnswers uses everything while it waits, since a rate takes two scrapes and a
// change between them.
func (m *monitored) everyQueryAnswers(t *testing.T) {
	t.Helper()
	jwt := mint(t, m.s, "", "super_admin")
	require.EventuallyWithT(t, func(c *assert.CollectT) {
		m.crowd.call(t, 0, http.MethodGet, "/secrets/own", nil)
		a := callProxy(t, m.s, http.MethodGet, "/public/core/v3/key/rotationSettings", nil, "INFA-SESSION-ID", jwt)
		assert.Equal(c, http.StatusOK, a.Status)
		for _, p := range monitoringtest.Panels(t) {
			for _, target := range p.Targets {
				assert.True(c, m.answers(t.Context(), target.Expr), "panel %q: %s", p.Title, target.Expr)
			}
		}
		for _, alert := range monitoringtest.Alerts(t) {
			for _, name := range monitoringtest.Names(alert.Expr) {
				assert.True(c, m.answers(t.Context(), name), "alert %s: %s", alert.Name, name)
			}
		}
	}, 2*monitoringLimit, monitoringTick)
}

// answers evaluates a query as Grafana sends it.
func (m *monitored) answers(ctx context.Context, expr string) bool {
	expr = strings.NewReplacer("$instance", ".*", "$__rate_interval", "1m").Replace(expr)
	samples, err := m.prometheus.Query(ctx, expr)
	return err == nil && len(samples) > 0
}

// spoilPage writes something else over the page of a tenant, behind the engine's back.
func (m *monitored) spoilPage(t *testing.T, tenant string) {
	t.Helper()
	base := fmt.Sprintf("sys/raw/logical/%v/", succeeded(t, callRoot(t, m.s, http.MethodGet, "sys/mounts/dek", nil))["uuid"])
	sum := sha256.Sum256([]byte(tenant))
	record, _ := succeeded(t, callRoot(t, m.s, http.MethodGet, fmt.Sprintf("%stenants/%x/%s", base, sum[:1], tenant), nil))["value"].(string)
	var found struct{ Incarnation string }
	require.NoError(t, json.Unmarshal([]byte(record), &found))
	pages := base + "pages/" + found.Incarnation
	keys, _ := callRoot(t, m.s, "LIST", pages, nil).data()["keys"].([]any)
	spoilt := 0
	for _, key := range keys {
		if name := fmt.Sprint(key); strings.HasPrefix(name, "p") {
			a := callRoot(t, m.s, http.MethodPut, pages+"/"+name, map[string]any{"value": "not a page"})
			require.Less(t, a.Status, 300, a.errors())
			spoilt++
		}
	}
	require.Positive(t, spoilt)
	require.NoError(t, m.s.ReloadPlugin(t.Context())) // it has the page in memory
}
