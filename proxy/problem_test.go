// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package proxy

import (
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/vault-plugin-dek/vault-plugin-dek/proxy/vault/vaulttest"
)

func TestVaultsAnswersToARotate(t *testing.T) {
	denied := `{"errors":["1 error occurred:\n\t* permission denied\n\n"]}`
	for _, tc := range []struct {
		name   string
		answer http.HandlerFunc
		status int
		code   string
		says   string
	}{
		{"policy", vaulttest.Reply(403, denied), 403, "FORBIDDEN", "Insufficient permissions"},
		{"no tenant", vaulttest.Reply(404, `{"errors":["tenant x does not exist"]}`), 404, "TENANT_NOT_FOUND", "Tenant not found"},
		{"no tenant, bare", vaulttest.Reply(404, `{"errors":[]}`), 404, "TENANT_NOT_FOUND", "Tenant not found"},
		{"no engine", vaulttest.Reply(404, `{"errors":["no handler for route \"dek/x\". route entry not found."]}`), 500, "INTERNAL_ERROR", "Server error"},
		{"old engine", vaulttest.Reply(404, `{"errors":["1 error occurred:\n\t* unsupported path\n\n"]}`), 500, "INTERNAL_ERROR", "Server error"},
		{"wrong method", vaulttest.Reply(405, `{"errors":[]}`), 500, "INTERNAL_ERROR", "Server error"},
		{"malformed", vaulttest.Reply(400, `{"errors":["1 error occurred:\n\t* key_type must be x\n\n"]}`), 400, "INVALID_REQUEST", "key_type must be x"},
		{"conflict with no rotation", vaulttest.Reply(409, `{"errors":["no room for another version"]}`), 409, "ROTATION_NOT_POSSIBLE", "no room for another version"},
		{"token too large", vaulttest.Reply(431, `{"errors":["authentication token exceeds maximum allowed header size"]}`), 401, "UNAUTHORIZED", "refuses the token as too large"},
		{"token too large, Vault 2.0.0", vaulttest.Reply(400, `{"errors":["authentication token exceeds maximum allowed header size"]}`), 401, "UNAUTHORIZED", "refuses the token as too large"},
		{"too large", vaulttest.Reply(413, `{"errors":["too large"]}`), 413, "PAYLOAD_TOO_LARGE", "too large"},
		{"owner's key provider", vaulttest.Reply(424, `{"errors":["provider \"aws\" denies"]}`), 503, "KEY_PROVIDER_DENIED", "Service unavailable"},
		{"redirect", redirect(308, "/v1/x"), 503, "SERVICE_UNAVAILABLE", ""},
		{"fault", vaulttest.Reply(500, `{"errors":["internal: /secret/path"]}`), 500, "INTERNAL_ERROR", "Server error"},
		{"sealed", vaulttest.Reply(503, `{"errors":["Vault is sealed"]}`), 503, "SERVICE_UNAVAILABLE", "Service unavailable"},
		{"held read-only", engineSays("storage cannot be written: The active node must step down or restart"), 503, "SERVICE_UNAVAILABLE", "must step down or restart"},
		{"newer storage", engineSays("a newer version of the plugin has written this mount's storage"), 503, "SERVICE_UNAVAILABLE", "a newer version"},
		{"engine", engineSays("key provider at /secret/path does not answer"), 503, "SERVICE_UNAVAILABLE", "the engine cannot serve this request now"},
		{"not initialized", vaulttest.Reply(501, `{"errors":[]}`), 503, "SERVICE_UNAVAILABLE", ""},
		{"replica", vaulttest.Reply(472, `{"errors":[]}`), 503, "SERVICE_UNAVAILABLE", ""},
		{"performance standby", vaulttest.Reply(473, `{"errors":[]}`), 503, "SERVICE_UNAVAILABLE", ""},
		{"replica behind", vaulttest.Reply(412, `{"errors":[]}`), 503, "SERVICE_UNAVAILABLE", ""},
		{"gateway's page", vaulttest.Reply(502, "<html>bad gateway</html>"), 503, "SERVICE_UNAVAILABLE", ""},
		{"hang up", vaulttest.HangUp, 503, "SERVICE_UNAVAILABLE", ""},
		{"not JSON", vaulttest.Reply(200, "<html>"), 500, "INTERNAL_ERROR", ""},
		{"no rotation", vaulttest.Reply(200, `{"data": {}}`), 500, "INTERNAL_ERROR", ""},
		{"bad time", vaulttest.Reply(200, `{"data": {"rotation_id": "x", "started_at": "yesterday"}}`), 500, "INTERNAL_ERROR", ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s := newStand(t)
			s.vault.On(vaulttest.AtRotate, tc.answer)
			w := s.rotate()
			requireAdminError(t, w, tc.status, tc.code)
			require.Contains(t, w.Body.String(), tc.says)
			for _, inside := range []string{"/secret/path", "dek/x", "html", "hvs."} {
				require.NotContains(t, w.Body.String(), inside)
			}
		})
	}
}

// engineSays is a 503 of the engine's own, in the form that Vault gives it.
func engineSays(text string) http.HandlerFunc {
	return vaulttest.Reply(503, `{"errors":["1 error occurred:\n\t* `+text+`\n\n"]}`)
}

// TestEnginesHintReachesTheCaller: a mount that only an operator can bring back is neither
// sealed nor out of reach, on any route, and asking again does not help.
func TestEnginesHintReachesTheCaller(t *testing.T) {
	s := newStand(t)
	held := engineSays("storage cannot be written: The active node must step down or restart")
	for _, route := range []string{vaulttest.AtRotate, vaulttest.AtChange} {
		s.vault.On(route, held)
	}
	for _, w := range []*httptest.ResponseRecorder{s.rotate(), s.change()} {
		require.Equal(t, 503, w.Code)
		require.Contains(t, w.Body.String(), "The active node must step down or restart")
		require.NotContains(t, w.Body.String(), "sealed")
	}
	require.Len(t, s.vault.Seen(vaulttest.AtRotate), 1)
	s.vault.On(vaulttest.AtRotate, vaulttest.Reply(503, `{"errors":["Vault is sealed"]}`))
	require.Contains(t, s.rotate().Body.String(), "sealed or out of reach")
	require.Len(t, s.vault.Seen(vaulttest.AtRotate), 3)
}

func TestRotateConflictNamesTheRunningRotation(t *testing.T) {
	for name, answer := range map[string]string{
		"in data":    `{"errors":["a rotation is in progress"],"data":{"rotation_id":"` + rotationID + `"}}`,
		"in message": `{"errors":["rotation ` + rotationID + ` is in progress"]}`,
	} {
		t.Run(name, func(t *testing.T) {
			s := newStand(t)
			s.vault.On(vaulttest.AtRotate, vaulttest.Reply(409, answer))
			w := s.rotate()
			details := requireAdminError(t, w, 409, "ROTATION_IN_PROGRESS")
			require.Equal(t, map[string]any{"rotationId": rotationID}, details)
			require.Contains(t, w.Body.String(), `"Rotation in progress"`)
			require.Len(t, s.vault.Seen(vaulttest.AtRotate), 1, "a conflict is not retried")
		})
	}
}

func TestRotatePassesARateLimitOn(t *testing.T) {
	s := newStand(t)
	s.vault.On(vaulttest.AtRotate, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Retry-After", "7")
		vaulttest.Reply(429, `{"errors":["request path \"dek/\": rate limit quota exceeded"]}`)(w, r)
	})
	w := s.rotate()
	requireAdminError(t, w, 429, "RATE_LIMITED")
	require.Equal(t, "7", w.Header().Get("Retry-After"))
	require.NotContains(t, w.Body.String(), "quota")
	require.Len(t, s.vault.Seen(vaulttest.AtRotate), 1)
}
