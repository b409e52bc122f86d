// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package proxy

import (
	"net/http"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/vault-plugin-dek/vault-plugin-dek/proxy/vault/vaulttest"
)

// documentedSettings is the response example of the second document.
const documentedSettings = `{
"orgId": "52ZSTB0IDK6dXxaEQLUaQu",
"validRotationIntervals": ["90_DAYS", "120_DAYS", "180_DAYS", "365_DAYS"],
"rotationInterval": "365_DAYS"
}`

func TestGetSettings(t *testing.T) {
	s := newStand(t)
	for _, prefix := range []string{"", "/saas"} {
		w := s.do("GET", prefix+settingsPath, header("INFA-SESSION-ID", s.goodJWT()))
		require.Equal(t, http.StatusOK, w.Code, w.Body.String())
		got := decode(t, w)
		want := documented(t, documentedSettings)
		requireShape(t, "$", want, got)
		require.Equal(t, "org-1", got["orgId"])
		require.Equal(t, want["validRotationIntervals"], got["validRotationIntervals"])
		require.Equal(t, "365_DAYS", got["rotationInterval"])
	}
}

func TestChangeSettings(t *testing.T) {
	for _, path := range []string{settingsPath, "/saas" + settingsPath} {
		for _, method := range []string{"PATCH", "POST"} {
			s := newStand(t)
			s.vault.On(vaulttest.AtChange, vaulttest.Reply(200, strings.ReplaceAll(vaulttest.SettingsData, "365_DAYS\",\n", "120_DAYS\",\n")))
			w := s.do(method, path, header("INFA-SESSION-ID", s.goodJWT()),
				header("Content-Type", "application/json; charset=UTF-8"), body(`{"rotationInterval": "120_DAYS", "x": 1}`))
			require.Equal(t, http.StatusOK, w.Code, w.Body.String())
			got := decode(t, w)
			requireShape(t, "$", documented(t, documentedSettings), got)
			require.Equal(t, "120_DAYS", got["rotationInterval"])
			calls := s.vault.Seen(vaulttest.AtChange)
			require.Len(t, calls, 1)
			require.Equal(t, map[string]any{"rotation_interval": "120_DAYS"}, calls[0].Body)
			require.Empty(t, s.vault.Seen(vaulttest.AtSettings), "the write's own answer is enough")
		}
	}
}

func TestChangeSettingsReadsWhatTheWriteDoesNotSay(t *testing.T) {
	for name, answer := range map[string]http.HandlerFunc{
		"no content": vaulttest.Reply(204, ""), "no data": vaulttest.Reply(200, `{"data": null, "warnings": ["x"]}`),
		"part": vaulttest.Reply(200, `{"data": {"rotation_interval": "120_DAYS"}}`),
	} {
		t.Run(name, func(t *testing.T) {
			s := newStand(t)
			s.vault.On(vaulttest.AtChange, answer)
			require.Equal(t, 200, s.change().Code)
			require.Len(t, s.vault.Seen(vaulttest.AtSettings), 1)
		})
	}
}

func TestChangeSettingsRefusesMalformedRequests(t *testing.T) {
	for name, edits := range map[string][]edit{
		"missing":         {body(`{}`)},
		"empty":           {body(`{"rotationInterval": ""}`)},
		"null":            {body(`{"rotationInterval": null}`)},
		"number":          {body(`{"rotationInterval": 120}`)},
		"unknown":         {body(`{"rotationInterval": "30_DAYS"}`)},
		"lower case":      {body(`{"rotationInterval": "120_days"}`)},
		"engine's name":   {body(`{"rotation_interval": "120_DAYS"}`)},
		"other case":      {body(`{"ROTATIONINTERVAL": "120_DAYS"}`)},
		"trailing object": {body(`{"rotationInterval": "120_DAYS"}{}`)},
		"array":           {body(`["120_DAYS"]`)},
		"empty body":      {body("")},
		"no content type": {header("Content-Type")},
		"merge patch":     {header("Content-Type", "application/merge-patch+json")},
	} {
		t.Run(name, func(t *testing.T) {
			s := newStand(t)
			w := s.change(edits...)
			requirePublicError(t, w, 400, "INVALID_REQUEST")
			require.Empty(t, s.vault.Seen(vaulttest.AtChange))
			if strings.Contains(w.Body.String(), "rotationInterval ") {
				for _, interval := range rotationIntervals {
					require.Contains(t, w.Body.String(), interval)
				}
			}
		})
	}
	s := newStand(t)
	w := s.change(body(`{}`))
	require.Contains(t, w.Body.String(), "must be one of 90_DAYS, 120_DAYS, 180_DAYS, 365_DAYS")
	requirePublicError(t, s.change(body(strings.Repeat(" ", maxBody+1))), 413, "PAYLOAD_TOO_LARGE")
}

// TestEmptySettings: an answer without the settings is a fault, and never shown.
func TestEmptySettings(t *testing.T) {
	for name, answer := range map[string]http.HandlerFunc{
		"no content": vaulttest.Reply(204, ""), "no data": vaulttest.Reply(200, `{"data": null}`),
		"empty": vaulttest.Reply(200, `{"data": {}}`), "part": vaulttest.Reply(200, `{"data": {"org_id": "x", "rotation_interval": "120_DAYS"}}`),
	} {
		t.Run(name, func(t *testing.T) {
			s := newStand(t)
			s.vault.On(vaulttest.AtSettings, answer)
			s.vault.On(vaulttest.AtChange, answer)
			requirePublicError(t, s.do("GET", settingsPath, header("INFA-SESSION-ID", s.goodJWT())), 500, "INTERNAL_ERROR")
			requirePublicError(t, s.change(), 500, "INTERNAL_ERROR")
		})
	}
}

func TestVaultsAnswersToASettingsChange(t *testing.T) {
	for _, tc := range []struct {
		name   string
		answer http.HandlerFunc
		status int
		code   string
	}{
		{"policy", vaulttest.Reply(403, `{"errors":["1 error occurred:\n\t* permission denied\n\n"]}`), 403, "FORBIDDEN"},
		{"engine's word", vaulttest.Reply(400, `{"errors":["rotation_interval must be one of 90_DAYS"]}`), 400, "INVALID_REQUEST"},
		{"no engine", vaulttest.Reply(404, `{"errors":[]}`), 500, "INTERNAL_ERROR"},
		{"rate limit", vaulttest.Reply(429, `{"errors":[]}`), 429, "RATE_LIMITED"},
		{"fault", vaulttest.Reply(500, `{"errors":["x"]}`), 500, "INTERNAL_ERROR"},
		{"sealed", vaulttest.Reply(503, `{"errors":["Vault is sealed"]}`), 503, "SERVICE_UNAVAILABLE"},
		{"hang up", vaulttest.HangUp, 503, "SERVICE_UNAVAILABLE"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s := newStand(t)
			s.vault.On(vaulttest.AtChange, tc.answer)
			requirePublicError(t, s.change(), tc.status, tc.code)
			require.Len(t, s.vault.Seen(vaulttest.AtChange), 1, "a write without an idempotency key is not repeated")
		})
	}
}
