// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

// Package vaulttest plays Vault at the level of HTTP, for tests of the client and of
// the proxy, so that the real client's code runs.
package vaulttest

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"path"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
)

// The tenant and the rotation that the answers are about.
const (
	TenantID   = "3fa85f64-5717-4562-b3fc-2c963f66afa6"
	RotationID = "rot-550e8400-e29b-41d4-a716-446655440001"
)

// The routes that a Server answers from the start.
const (
	AtLogin    = "PUT /v1/auth/jwt/login"
	AtRotate   = "PUT /v1/dek/tenants/" + TenantID + "/dek/rotate"
	AtRotation = "GET /v1/dek/tenants/" + TenantID + "/dek/rotations/" + RotationID
	AtSettings = "GET /v1/dek/key/rotationSettings"
	AtChange   = "PUT /v1/dek/key/rotationSettings"
	AtSelf     = "GET /v1/auth/token/lookup-self"
	AtEntity   = "GET /v1/identity/entity/id/" // of any ID
	AtRevoke   = "PUT /v1/auth/token/revoke-self"
	AtMounts   = "GET /v1/sys/internal/ui/mounts"
	AtHealth   = "GET /v1/sys/health"
	AtLeader   = "GET /v1/sys/leader"
)

// RotationData is a rotation as the engine shows it.
const RotationData = `{"data": {
	"rotation_id": "` + RotationID + `", "tenant_id": "` + TenantID + `", "status": "in_progress",
	"previous_key_id": "dek-old", "new_key_id": "dek-new", "previous_version": 1, "new_version": 2,
	"started_at": "2025-07-10T14:35:00.123456789Z", "completed_at": null,
	"estimated_completion": "2025-07-10T16:45:00+02:00",
	"items_to_rotate": {"credentials": 25, "api_keys": 10, "secrets": 50},
	"items_rotated": {"credentials": 5, "api_keys": 2, "secrets": 10},
	"items_failed": 1, "percent": 20.5,
	"initiated_by": {"id": "user-1", "name": "Ada", "email": "ada@example.com"}}}`

// SettingsData are the organization's settings as the engine shows them.
const SettingsData = `{"data": {"org_id": "org-1", "rotation_interval": "365_DAYS",
	"valid_rotation_intervals": ["90_DAYS", "120_DAYS", "180_DAYS", "365_DAYS"]}}`

// InvalidToken is Vault's answer to a token that it does not know.
const InvalidToken = `{"errors":["2 errors occurred:\n\t* permission denied\n\t* invalid token\n\n"]}` // #nosec G101 -- the text of an error

// Denied is Vault's and OpenBao's answer to a token that their policies refuse, and
// BareDenial is OpenBao's to one that it does not know.
const (
	Denied     = `{"errors":["1 error occurred:\n\t* permission denied\n\n"]}`
	BareDenial = `{"errors":["permission denied"]}`
)

// Call is a request as the server saw it.
type Call struct {
	Route, Token string
	Header       http.Header
	Body         map[string]any
}

// Server is a Vault that agrees to everything until it is told otherwise.
type Server struct {
	*httptest.Server
	mu      sync.Mutex
	calls   []Call
	answers map[string]http.HandlerFunc
	logins  int
	aliases map[string]map[string]any
}

// New starts a server that stops with the test.
func New(t testing.TB) *Server {
	t.Helper()
	f := &Server{answers: map[string]http.HandlerFunc{}, aliases: map[string]map[string]any{}}
	f.Server = httptest.NewServer(http.HandlerFunc(f.serve))
	t.Cleanup(f.Close)
	f.On(AtLogin, f.Login)
	f.On(AtEntity, f.entity)
	f.On(AtRevoke, Reply(204, ""))
	f.On(AtMounts, Reply(200, `{"data": {}}`))
	f.On(AtRotate, Reply(200, RotationData))
	f.On(AtRotation, Reply(200, RotationData))
	f.On(AtSettings, Reply(200, SettingsData))
	f.On(AtChange, Reply(200, SettingsData))
	f.On(AtSelf, Reply(200, `{"data": {}}`))
	f.On(AtHealth, Reply(200, `{"initialized": true, "sealed": false, "standby": false, "version": "1.21.1"}`))
	return f
}

func (f *Server) serve(w http.ResponseWriter, r *http.Request) {
	raw, _ := io.ReadAll(r.Body)
	r.Body = io.NopCloser(bytes.NewReader(raw))
	call := Call{Route: r.Method + " " + r.URL.Path, Token: r.Header.Get("X-Vault-Token"), Header: r.Header}
	_ = json.Unmarshal(raw, &call.Body)
	f.mu.Lock()
	f.calls = append(f.calls, call)
	route := call.Route
	if strings.HasPrefix(r.URL.Path, "/v1/identity/entity/id/") {
		route = AtEntity
	}
	answer := f.answers[route]
	f.mu.Unlock()
	if answer == nil {
		answer = Reply(404, `{"errors":["no handler for route \"x\". route entry not found."]}`)
	}
	answer(w, r)
}

// Login hands out hvs.login-1, hvs.login-2 and so on, and keeps entities as Vault
// does: it finds an alias by its name in lower case, and writes the metadata anew
// only where the name is the same letter by letter.
func (f *Server) Login(w http.ResponseWriter, r *http.Request) {
	var sent struct {
		JWT string `json:"jwt"`
	}
	_ = json.NewDecoder(r.Body).Decode(&sent)
	var claims struct {
		Sub      string `json:"sub"`
		TenantID string `json:"tenant_id"`
	}
	if parts := strings.Split(sent.JWT, "."); len(parts) == 3 {
		payload, _ := base64.RawURLEncoding.DecodeString(parts[1])
		_ = json.Unmarshal(payload, &claims)
	}
	f.mu.Lock()
	f.logins++
	token := "hvs.login-" + strconv.Itoa(f.logins)
	id := "entity-" + hex.EncodeToString([]byte(strings.ToLower(claims.Sub)))
	alias, known := f.aliases[id]
	if !known || alias["name"] == claims.Sub {
		metadata := map[string]string{}
		if claims.TenantID != "" {
			metadata["tenant_id"] = claims.TenantID
		}
		mount := strings.TrimSuffix(strings.TrimPrefix(r.URL.Path, "/v1/"), "login")
		alias = map[string]any{"name": claims.Sub, "mount_path": mount, "metadata": metadata}
		f.aliases[id] = alias
	}
	f.mu.Unlock()
	Reply(200, `{"auth": {"client_token": "`+token+`", "lease_duration": 3600, "entity_id": "`+id+`", "token_type": "batch"}}`)(w, r)
}

// entity answers a read of an entity.
func (f *Server) entity(w http.ResponseWriter, r *http.Request) {
	f.mu.Lock()
	raw, _ := json.Marshal(map[string]any{"data": map[string]any{"aliases": []any{
		map[string]any{"name": "someone", "mount_path": "auth/userpass/"}, f.aliases[path.Base(r.URL.Path)],
	}}})
	f.mu.Unlock()
	Reply(200, string(raw))(w, r)
}

// On sets the answer of a route, such as AtLogin.
func (f *Server) On(route string, answer http.HandlerFunc) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.answers[route] = answer
}

// Seen returns the calls of a route, in order.
func (f *Server) Seen(route string) []Call {
	f.mu.Lock()
	defer f.mu.Unlock()
	var calls []Call
	for _, call := range f.calls {
		if call.Route == route || (route == AtEntity && strings.HasPrefix(call.Route, AtEntity)) {
			calls = append(calls, call)
		}
	}
	return calls
}

// Reply is an answer of this status and JSON.
func Reply(status int, body string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(status)
		_, _ = io.WriteString(w, body)
	}
}

// Replies answers each call with the next one, and stays with the last.
func Replies(answers ...http.HandlerFunc) http.HandlerFunc {
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

// HangUp closes the connection without an answer.
func HangUp(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }

// Calls returns all calls, in order.
func (f *Server) Calls() []Call {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.calls)
}

// Answer returns what a route is answered with now.
func (f *Server) Answer(route string) http.HandlerFunc {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.answers[route]
}
