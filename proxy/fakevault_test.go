// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package proxy

import (
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/vault/api"
	"github.com/stretchr/testify/require"
)

const (
	tenantID   = "3fa85f64-5717-4562-b3fc-2c963f66afa6"
	rotationID = "rot-550e8400-e29b-41d4-a716-446655440001"

	rotatePath   = "/api/v1/admin/dek/rotate"
	settingsPath = "/public/core/v3/key/rotationSettings"

	atLogin    = "PUT /v1/auth/jwt/login"
	atRotate   = "PUT /v1/dek/tenants/" + tenantID + "/dek/rotate"
	atRotation = "GET /v1/dek/tenants/" + tenantID + "/dek/rotations/" + rotationID
	atSettings = "GET /v1/dek/key/rotationSettings"
	atChange   = "PUT /v1/dek/key/rotationSettings"
	atSelf     = "GET /v1/auth/token/lookup-self"
	atHealth   = "GET /v1/sys/health"
	atLeader   = "GET /v1/sys/leader"
)

const rotationData = `{"data": {
	"rotation_id": "` + rotationID + `", "tenant_id": "` + tenantID + `", "status": "in_progress",
	"previous_key_id": "dek-old", "new_key_id": "dek-new", "previous_version": 1, "new_version": 2,
	"started_at": "2025-07-10T14:35:00.123456789Z", "completed_at": null,
	"estimated_completion": "2025-07-10T16:45:00+02:00",
	"items_to_rotate": {"credentials": 25, "api_keys": 10, "secrets": 50},
	"items_rotated": {"credentials": 5, "api_keys": 2, "secrets": 10},
	"items_failed": 1, "percent": 20.5,
	"initiated_by": {"id": "user-1", "name": "Ada", "email": "ada@example.com"}}}`

const settingsData = `{"data": {"org_id": "org-1", "rotation_interval": "365_DAYS",
	"valid_rotation_intervals": ["90_DAYS", "120_DAYS", "180_DAYS", "365_DAYS"]}}`

const invalidTokenAnswer = `{"errors":["2 errors occurred:\n\t* permission denied\n\t* invalid token\n\n"]}`

// vaultCall is a request as the fake Vault saw it.
type vaultCall struct {
	route, token string
	body         map[string]any
}

// fakeVault plays Vault at HTTP level, so that the real client code runs.
type fakeVault struct {
	*httptest.Server
	mu      sync.Mutex
	calls   []vaultCall
	answers map[string]http.HandlerFunc
	logins  int
}

func newFakeVault(t testing.TB) *fakeVault {
	t.Helper()
	f := &fakeVault{answers: map[string]http.HandlerFunc{}}
	f.Server = httptest.NewServer(http.HandlerFunc(f.serve))
	t.Cleanup(f.Close)
	f.on(atLogin, f.login)
	f.on(atRotate, reply(200, rotationData))
	f.on(atRotation, reply(200, rotationData))
	f.on(atSettings, reply(200, settingsData))
	f.on(atChange, reply(200, settingsData))
	f.on(atSelf, reply(200, `{"data": {}}`))
	f.on(atHealth, reply(200, `{"initialized": true, "sealed": false, "standby": false, "version": "1.21.1"}`))
	return f
}

func (f *fakeVault) serve(w http.ResponseWriter, r *http.Request) {
	raw, _ := io.ReadAll(r.Body)
	call := vaultCall{route: r.Method + " " + r.URL.Path, token: r.Header.Get("X-Vault-Token")}
	_ = json.Unmarshal(raw, &call.body)
	f.mu.Lock()
	f.calls = append(f.calls, call)
	answer := f.answers[call.route]
	f.mu.Unlock()
	if answer == nil {
		answer = reply(404, `{"errors":["no handler for route \"x\". route entry not found."]}`)
	}
	answer(w, r)
}

// login hands out hvs.login-1, hvs.login-2 and so on.
func (f *fakeVault) login(w http.ResponseWriter, r *http.Request) {
	f.mu.Lock()
	f.logins++
	token := "hvs.login-" + strconv.Itoa(f.logins)
	f.mu.Unlock()
	reply(200, `{"auth": {"client_token": "`+token+`", "lease_duration": 3600, "entity_id": "entity-1"}}`)(w, r)
}

func (f *fakeVault) on(route string, answer http.HandlerFunc) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.answers[route] = answer
}

// seen returns the calls of a route, in order.
func (f *fakeVault) seen(route string) []vaultCall {
	f.mu.Lock()
	defer f.mu.Unlock()
	var calls []vaultCall
	for _, call := range f.calls {
		if call.route == route {
			calls = append(calls, call)
		}
	}
	return calls
}

func reply(status int, body string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(status)
		_, _ = io.WriteString(w, body)
	}
}

// replies answers each call with the next one, and stays with the last.
func replies(answers ...http.HandlerFunc) http.HandlerFunc {
	var mu sync.Mutex
	next := 0
	return func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		answer := answers[min(next, len(answers)-1)]
		next++
		mu.Unlock()
		answer(w, r)
	}
}

// hangUp closes the connection without an answer.
func hangUp(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }

// testClient is a real Client of the fake.
func testClient(t testing.TB, f *fakeVault, timeout time.Duration) *Client {
	t.Helper()
	conf := api.DefaultConfig()
	conf.Address = f.URL
	client, err := NewClient(ClientConfig{API: conf, Timeout: timeout})
	require.NoError(t, err)
	return client
}
