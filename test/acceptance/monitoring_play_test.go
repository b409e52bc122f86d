// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

//go:build acceptance

package acceptance

import (
	"context"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/vault-plugin-dek/vault-plugin-dek/internal/devstack"
	"github.com/vault-plugin-dek/vault-plugin-dek/internal/monitoringtest"
)

// monitored is a stack that a Prometheus scrapes.
type monitored struct {
	s          *devstack.Stack
	prometheus *monitoringtest.Server
	crowd      *crowd
	jwt        string // whose login the proxy keeps
	played     []string
}

// incident is something that goes wrong.
type incident struct {
	name   string
	begin  func(t *testing.T)
	again  func(t *testing.T) // what takes more than once; nil: nothing
	end    func(t *testing.T) // nil: it does not end
	alerts []string
}

// play has incidents begin together. None of their alerts fires before, and all do then.
func (m *monitored) play(t *testing.T, together ...incident) {
	t.Helper()
	for _, i := range together {
		m.await(t, nil, func(firing map[string]bool) bool { return !anyOf(firing, i.alerts) }, "%s: one of %v fires before", i.name, i.alerts)
	}
	for _, i := range together {
		i.begin(t)
	}
	for _, i := range together {
		t.Run(i.name, func(t *testing.T) {
			m.await(t, i.again, func(firing map[string]bool) bool { return allOf(firing, i.alerts) }, "one of %v does not fire", i.alerts)
		})
		m.played = append(m.played, i.alerts...)
	}
	for _, i := range together {
		if i.end != nil {
			i.end(t)
		}
	}
}

// await polls until the alerts that fire are as wanted.
func (m *monitored) await(t *testing.T, again func(*testing.T), wanted func(firing map[string]bool) bool, what string, args ...any) {
	t.Helper()
	var firing map[string]bool
	for limit := time.Now().Add(monitoringLimit); time.Now().Before(limit); <-time.After(monitoringTick) {
		if again != nil {
			again(t)
		}
		var err error
		firing, err = m.prometheus.Firing(t.Context())
		require.NoError(t, err)
		if wanted(firing) {
			return
		}
	}
	t.Logf("what fires: %v", firing)
	require.Failf(t, "the alerts are not as wanted", what, args...)
}

func anyOf(firing map[string]bool, alerts []string) bool {
	for _, name := range alerts {
		if firing[name] {
			return true
		}
	}
	return false
}

func allOf(firing map[string]bool, alerts []string) bool {
	for _, name := range alerts {
		if !firing[name] {
			return false
		}
	}
	return true
}

// everyQueryAnswers uses everything while it waits, since a rate takes two scrapes and a
// change between them.
func (m *monitored) everyQueryAnswers(t *testing.T) {
	t.Helper()
	require.EventuallyWithT(t, func(c *assert.CollectT) {
		m.crowd.call(t, 0, http.MethodGet, "/secrets/own", nil)
		assert.Equal(c, http.StatusOK, m.askProxy(t).Status)
		for _, p := range monitoringtest.Panels(t) {
			for _, target := range p.Targets {
				assert.True(c, m.answers(t.Context(), target.Expr), "panel %q: %s", p.Title, target.Expr)
			}
		}
		for _, v := range monitoringtest.Variables(t) {
			assert.True(c, m.answers(t.Context(), v), "variable: %s", v)
		}
		for _, alert := range monitoringtest.Alerts(t) {
			for _, name := range monitoringtest.Names(alert.Expr) {
				assert.True(c, m.answers(t.Context(), name), "alert %s: %s", alert.Name, name)
			}
		}
	}, monitoringLimit, monitoringTick)
}

func (m *monitored) askProxy(t *testing.T) answer {
	t.Helper()
	return callProxy(t, m.s, http.MethodGet, settingsPaths[0], nil, "INFA-SESSION-ID", m.jwt)
}

// answers evaluates a query as Grafana sends it.
func (m *monitored) answers(ctx context.Context, expr string) bool {
	expr = strings.NewReplacer("$instance", ".*", "$__rate_interval", "1m").Replace(expr)
	samples, err := m.prometheus.Query(ctx, expr)
	return err == nil && len(samples) > 0
}
