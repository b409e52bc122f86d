// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

//go:build acceptance

package acceptance

import (
	"bytes"
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
	monitoringLimit = 2 * time.Minute
	monitoringTick  = 250 * time.Millisecond
)

// TestMonitoring has a Prometheus scrape a real Vault and proxy with docs/monitoring's
// policy and configuration. While all is well every query of the dashboard has an answer,
// every figure that a rule names is there, and no alert fires. Then each incident fires its
// alerts. docs/monitoring/README.md says of the others why none is played.
func TestMonitoring(t *testing.T) {
	monitoringtest.Tool(t, "prometheus")
	s := start(t, devstack.Options{Storage: devstack.Raft, RawStorage: true})
	owner := newTransitOwner(t, s)
	road := newRoad(t, s.VaultAddr())
	provider := owner.provider()
	provider["parameters"].(map[string]any)["address"] = road.URL
	f := newCrowd(t, s, "dek", 6)
	succeeded(t, callRoot(t, s, http.MethodPut, "dek/providers/owner", provider))
	succeeded(t, callRoot(t, s, http.MethodPut, "dek/kek/rotate", map[string]any{"provider": "owner"}))
	f.untilKEK(t, "completed")
	waitRotation(t, s, f.ids[0], rotate(t, s, f.ids[0]), "completed")
	paused := slowTenant(t, s, "Paused")
	prometheus := monitoringtest.Start(t, strings.TrimPrefix(s.VaultAddr(), "http://"), strings.TrimPrefix(s.ProxyURL(), "http://"), scraper(t, s))
	m := &monitored{s: s, prometheus: prometheus, crowd: f, jwt: mint(t, s, "", "super_admin")}
	raw := newRawStorage(t, s)

	m.everyQueryAnswers(t)
	m.await(t, nil, func(firing map[string]bool) bool { return len(firing) == 0 }, "all is well")
	var snapshot bytes.Buffer
	require.NoError(t, s.Snapshot(t.Context(), &snapshot))

	m.play(t, m.guesses(), m.failedAndForgotten(raw, f.ids[1], f.ids[4]), m.refusedReports(f.ids[2]),
		m.pausedRotation(paused), m.oldKEK(), m.slowOwner(road))
	m.play(t, m.lostOwner(road))
	m.play(t, m.deniedAll(owner))
	m.play(t, m.stoppedVault())
	m.play(t, m.damagedRecord(raw, f.ids[3]))
	m.play(t, m.restored(&snapshot))
	if held := m.heldReadOnly(); m.canBeHeld(t, held) {
		m.play(t, held)
	} else {
		m.played = append(m.played, held.alerts...)
	}
	m.play(t, m.stuckEvidence(raw))
	m.play(t, m.sealed())
	m.play(t, m.endedProxy())
	assert.ElementsMatch(t, monitoringtest.Played(t), m.played, "what docs/monitoring/README.md says")
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
	require.Equal(t, http.StatusOK, call(t, s, http.MethodPut, "auth/token/renew-self", token, nil).Status, "or it ends after a day")
	return token
}
