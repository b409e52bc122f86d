// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package proxy

import (
	"encoding/base64"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/vault/api"
	"github.com/stretchr/testify/require"

	"github.com/vault-plugin-dek/vault-plugin-dek/proxy/vault"
	"github.com/vault-plugin-dek/vault-plugin-dek/proxy/vault/vaulttest"
)

// stand is a proxy in front of a fake Vault.
type stand struct {
	*Proxy
	vault *vaulttest.Server
	clock *testClock
}

func newStand(t testing.TB, change ...func(*Config)) *stand {
	t.Helper()
	s := &stand{vault: vaulttest.New(t), clock: newClock()}
	cfg := Config{Realms: map[string]Realm{DefaultRealm: {Vault: testClient(t, s.vault, vault.Config{})}}, now: s.clock.now, retryWait: time.Nanosecond}
	for _, c := range change {
		c(&cfg)
	}
	var err error
	s.Proxy, err = New(cfg)
	require.NoError(t, err)
	return s
}

// testClient is a real client of the server.
func testClient(t testing.TB, f *vaulttest.Server, cfg vault.Config) *vault.Client {
	t.Helper()
	cfg.API = api.DefaultConfig()
	cfg.API.Address = f.URL
	client, err := vault.New(cfg)
	require.NoError(t, err)
	return client
}

const (
	tenantID   = vaulttest.TenantID
	rotationID = vaulttest.RotationID

	rotatePath   = "/api/v1/admin/dek/rotate"
	settingsPath = "/public/core/v3/key/rotationSettings"
)

// jwt makes a JWT of these claims; the fake Vault does not look at signatures.
func jwt(claims map[string]any) string {
	payload, err := json.Marshal(claims)
	if err != nil {
		panic(err)
	}
	return segment(`{"alg":"RS256"}`) + "." + segment(string(payload)) + "." + segment("signature")
}

func segment(s string) string { return base64.RawURLEncoding.EncodeToString([]byte(s)) }

// use puts another Vault behind the default realm.
func (s *stand) use(v Vault) {
	if err := s.SetRealms(map[string]Realm{DefaultRealm: {Vault: v}}); err != nil {
		panic(err)
	}
}

// goodJWT lives an hour by the stand's clock.
func (s *stand) goodJWT() string {
	return jwt(map[string]any{"sub": "u", "tenant_id": tenantID, "exp": s.clock.now().Add(time.Hour).Unix()})
}

// edit changes a request that is otherwise well-formed.
type edit func(*http.Request)

func header(name string, values ...string) edit {
	return func(r *http.Request) {
		r.Header.Del(name)
		for _, value := range values {
			r.Header.Add(name, value)
		}
	}
}

func body(s string) edit {
	return func(r *http.Request) { r.Body = io.NopCloser(strings.NewReader(s)) }
}

// do sends a request to the proxy with both families' headers left out.
func (s *stand) do(method, target string, edits ...edit) *httptest.ResponseRecorder {
	r := httptest.NewRequest(method, target, http.NoBody)
	for _, e := range edits {
		e(r)
	}
	w := httptest.NewRecorder()
	s.ServeHTTP(w, r)
	return w
}

// rotate sends the documented request, with changes.
func (s *stand) rotate(edits ...edit) *httptest.ResponseRecorder {
	return s.do("POST", rotatePath, append([]edit{
		header("Authorization", "Bearer "+s.goodJWT()), header("Content-Type", "application/json"),
		header("x-tenantid", tenantID), body(`{"tenantId": "` + tenantID + `"}`),
	}, edits...)...)
}

// change sends the second document's request, with changes.
func (s *stand) change(edits ...edit) *httptest.ResponseRecorder {
	return s.do("PATCH", settingsPath, append([]edit{
		header("INFA-SESSION-ID", s.goodJWT()), header("Content-Type", "application/json"),
		body(`{"rotationInterval": "120_DAYS"}`),
	}, edits...)...)
}

func decode(t testing.TB, w *httptest.ResponseRecorder) map[string]any {
	t.Helper()
	require.Equal(t, "application/json", w.Header().Get("Content-Type"), w.Body.String())
	var out map[string]any
	require.NoError(t, json.Unmarshal(w.Body.Bytes(), &out), w.Body.String())
	return out
}

// requireAdminError checks the first family's error envelope and returns its details.
func requireAdminError(t testing.TB, w *httptest.ResponseRecorder, status int, code string) map[string]any {
	t.Helper()
	require.Equal(t, status, w.Code, w.Body.String())
	out := decode(t, w)
	requireKeys(t, out, "success", "error", "timestamp")
	require.Equal(t, false, out["success"])
	require.Regexp(t, `^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$`, out["timestamp"])
	object, _ := out["error"].(map[string]any)
	requireKeys(t, object, "code", "message", "details")
	require.Equal(t, code, object["code"])
	require.NotEmpty(t, object["message"])
	details, ok := object["details"].(map[string]any)
	require.True(t, ok, "details must be an object")
	return details
}

// requirePublicError checks the second family's error envelope and returns it.
func requirePublicError(t testing.TB, w *httptest.ResponseRecorder, status int, code string) map[string]any {
	t.Helper()
	require.Equal(t, status, w.Code, w.Body.String())
	out := decode(t, w)
	requireKeys(t, out, "error")
	object, _ := out["error"].(map[string]any)
	requireKeys(t, object, "code", "message", "requestId", "details")
	require.Equal(t, code, object["code"])
	require.NotEmpty(t, object["message"])
	require.Equal(t, w.Header().Get("X-Request-Id"), object["requestId"])
	_, ok := object["details"].([]any)
	require.True(t, ok, "details must be a list")
	return object
}

func requireKeys(t testing.TB, object map[string]any, keys ...string) {
	t.Helper()
	have := make([]string, 0, len(object))
	for key := range object {
		have = append(have, key)
	}
	require.ElementsMatch(t, keys, have)
}

// testClock is a clock that only moves when told to.
type testClock struct {
	mu sync.Mutex
	at time.Time
}

func newClock() *testClock {
	return &testClock{at: time.Date(2025, 7, 10, 14, 35, 0, 7_900_000, time.FixedZone("", 7200))}
}

func (c *testClock) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.at
}

func (c *testClock) advance(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.at = c.at.Add(d)
}
