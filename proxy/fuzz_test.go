// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package proxy

import (
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/vault/api"
	"github.com/stretchr/testify/require"

	"github.com/vault-plugin-dek/vault-plugin-dek/proxy/vault"
)

// FuzzParseJWT checks what a JWT that passes must be like.
func FuzzParseJWT(f *testing.F) {
	now := newClock().now()
	future := now.Add(time.Hour).Unix()
	for _, seed := range []string{
		jwt(map[string]any{"exp": future, "tenant_id": tenantID, "sub": "u", "roles": []string{}}),
		jwt(map[string]any{"exp": 1e300}), jwt(map[string]any{"exp": -1}), jwt(map[string]any{"tenant_id": "+"}),
		jwt(map[string]any{"exp": float64(future) + 0.5}), jwt(map[string]any{"tenant_id": nil}),
		jwt(map[string]any{"roles": "Auditor"}), jwt(map[string]any{"roles": "auditor"}), jwt(map[string]any{"roles": []any{"other", "Auditor"}}),
		jwt(map[string]any{"roles": []any{"auditor", 1}}), jwt(map[string]any{"roles": true}),
		"", "..", "a.b.c", "eyJhbGciOiJub25lIn0.e30.", "hvs.abc.def", strings.Repeat("a", maxJWT+1),
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, token string) {
		claim, prob := parseJWT(token, now, "")
		if prob != nil {
			require.Equal(t, 401, prob.status)
			return
		}
		require.LessOrEqual(t, len(token), maxJWT)
		require.True(t, claim.expiry.IsZero() || claim.expiry.After(now))
		payload, ok := decodeSegment(strings.Split(token, ".")[1])
		require.True(t, ok)
		if raw, present := payload["tenant_id"]; present {
			var id string
			require.NoError(t, json.Unmarshal(raw, &id))
			require.Regexp(t, uuidForm, id)
		}
		for _, role := range rolesAtVault(t, payload["roles"]) {
			require.False(t, foldedRole(role, ""), "Vault would take it for another role")
			require.True(t, role == "" || slices.Contains(claim.roles, role), "what Vault takes for a role must count in the print")
		}
	})
}

// rolesAtVault is what Vault's JWT method makes of a groups claim; a claim that it
// refuses must not have passed.
func rolesAtVault(t *testing.T, raw json.RawMessage) (roles []string) {
	t.Helper()
	if raw == nil {
		return nil
	}
	var claim any
	require.NoError(t, json.Unmarshal(raw, &claim))
	switch claim := claim.(type) {
	case nil:
	case string:
		roles = []string{claim}
	case []any:
		for _, element := range claim {
			role, ok := element.(string)
			require.True(t, ok)
			roles = append(roles, role)
		}
	default:
		require.Fail(t, "Vault refuses this form")
	}
	return roles
}

// FuzzRotateRequest throws headers and bodies at the first route: a rotation is
// only ever started for the tenant that both name, and no answer is without its
// envelope.
func FuzzRotateRequest(f *testing.F) {
	type seed struct{ contentType, tenant, body string }
	for _, s := range []seed{
		{"application/json", tenantID, `{"tenantId": "` + tenantID + `"}`},
		{"application/json; charset=utf-8", strings.ToUpper(tenantID), `{"tenantId": "` + tenantID + `"}`},
		{"text/plain", "", ""},
		{"application/json", tenantID, `{"tenantId": null}`},
		{"application/json", tenantID, `{"tenantId": "x"} {}`},
		{"application/json", tenantID, `[`},
		{"application/json;=", "\x00", "\xff"},
	} {
		f.Add(s.contentType, s.tenant, s.body)
	}
	s := newStand(f)
	token := s.goodJWT()
	fake := &recordingVault{}
	s.use(fake)
	f.Fuzz(func(t *testing.T, contentType, tenant, text string) {
		fake.tenants = nil
		r := httptest.NewRequest("POST", rotatePath, strings.NewReader(text))
		r.Header = http.Header{
			"Authorization": {"Bearer " + token}, "Content-Type": {contentType}, "X-Tenantid": {tenant},
		}
		w := httptest.NewRecorder()
		s.ServeHTTP(w, r)
		if w.Code != http.StatusOK {
			requireAdminError(t, w, w.Code, "INVALID_REQUEST")
			require.Empty(t, fake.tenants)
			return
		}
		require.Equal(t, []string{strings.ToLower(tenant)}, fake.tenants)
		var sent map[string]any
		require.NoError(t, json.Unmarshal([]byte(text), &sent))
		require.Equal(t, fake.tenants[0], strings.ToLower(sent["tenantId"].(string)))
	})
}

// FuzzSettingsRequest throws sessions and bodies at the second route.
func FuzzSettingsRequest(f *testing.F) {
	s := newStand(f, func(c *Config) { c.RefusedPerAddress = 1 << 30 }) // it may hit upon another subject
	for _, session := range []string{s.goodJWT(), "hvs.token", "", "a b", "x.y.z", "hvs.\n"} {
		for _, text := range []string{`{"rotationInterval": "120_DAYS"}`, `{"rotationInterval": 5}`, "", "{}{}"} {
			f.Add(session, text)
		}
	}
	fake := &recordingVault{}
	s.use(fake)
	f.Fuzz(func(t *testing.T, session, text string) {
		fake.intervals = nil
		r := httptest.NewRequest("PATCH", settingsPath, strings.NewReader(text))
		r.Header = http.Header{"Infa-Session-Id": {session}, "Content-Type": {"application/json"}}
		w := httptest.NewRecorder()
		s.ServeHTTP(w, r)
		switch w.Code {
		case 200:
			require.Len(t, fake.intervals, 1)
			require.Contains(t, rotationIntervals, fake.intervals[0])
		case 400:
			requirePublicError(t, w, 400, "INVALID_REQUEST")
			require.Empty(t, fake.intervals)
		default:
			requirePublicError(t, w, 401, "UNAUTHORIZED")
			require.Empty(t, fake.intervals)
		}
	})
}

// FuzzLoginRequest throws bodies at the login: a username becomes part of a path
// of Vault's, so only what is one plain segment of it gets there.
func FuzzLoginRequest(f *testing.F) {
	for _, username := range []string{"alice", "a.b-c", "", ".", "..", "a/../b", "a/b", "a%2fb", "a\u0000", "a?b", "\u00e9"} {
		raw, err := json.Marshal(map[string]string{"username": username, "password": "x"})
		require.NoError(f, err)
		f.Add("application/json", string(raw))
	}
	f.Add("text/plain", `{"username": "alice", "password": "x"}`)
	f.Add("application/json", `{"username": "alice"}`)
	f.Add("application/json", `{"username": ["alice"], "password": null}`)
	s := newStand(f)
	fake := &recordingVault{}
	s.use(fake)
	f.Fuzz(func(t *testing.T, contentType, text string) {
		fake.users = nil
		r := httptest.NewRequest("POST", loginPath, strings.NewReader(text))
		r.Header = http.Header{"Content-Type": {contentType}}
		w := httptest.NewRecorder()
		s.ServeHTTP(w, r)
		switch w.Code {
		case 200:
			require.Len(t, fake.users, 1)
			require.Regexp(t, `^[A-Za-z0-9_.-]+$`, fake.users[0])
			require.NotContains(t, []string{".", ".."}, fake.users[0])
		case 400:
			requirePublicError(t, w, 400, "INVALID_REQUEST")
			require.Empty(t, fake.users)
		default:
			requirePublicError(t, w, 401, "UNAUTHORIZED")
			require.Empty(t, fake.users)
		}
	})
}

// answering is a Vault that gives one answer to everything.
type answering struct {
	status int
	body   string
}

// RoundTrip implements http.RoundTripper.
func (a *answering) RoundTrip(r *http.Request) (*http.Response, error) {
	return &http.Response{
		StatusCode: a.status, Header: http.Header{"Content-Type": {"application/json"}},
		Body: io.NopCloser(strings.NewReader(a.body)), Request: r,
	}, nil
}

// FuzzVaultAnswer throws answers at the client: whatever Vault, or what stands in
// its place, says, a caller gets a rotation that has an ID, or an error in a form
// that can be sent.
func FuzzVaultAnswer(f *testing.F) {
	for _, body := range []string{
		`{"data": {"rotation_id": "` + rotationID + `", "started_at": "2026-01-31T00:00:00Z", "items_to_rotate": {"secrets": 1}}}`,
		`{"errors": ["1 error occurred:\n\t* rotation ` + rotationID + ` of this tenant is in progress\n\n"]}`,
		`{"errors": ["in progress"], "data": {"rotation_id": "` + rotationID + `"}}`,
		`{"errors": ["permission denied"]}`, `{"errors": null}`, `{"data": []}`, `{"data": {"percent": "x"}}`, "null", "", "<html>",
	} {
		for _, status := range []int{200, 204, 400, 403, 409, 429, 472, 500, 503} {
			f.Add(status, body)
		}
	}
	upstream := &answering{}
	client, err := vault.New(vault.Config{API: &api.Config{Address: "http://127.0.0.1:1", HttpClient: &http.Client{Transport: upstream}}})
	require.NoError(f, err)
	f.Fuzz(func(t *testing.T, status int, body string) {
		if status < 200 || status > 599 || status/100 == 3 {
			return // nothing that the library takes for an answer
		}
		upstream.status, upstream.body = status, body
		rotation, err := client.Rotation(t.Context(), "hvs.x", tenantID, rotationID)
		if err == nil {
			require.NotEmpty(t, rotation.RotationID)
			return
		}
		var refused *vault.Error
		if errors.As(err, &refused) {
			require.Equal(t, status, refused.Status)
			require.NotContains(t, refused.Text(), "\n")
		}
		prob := asProblem(err, noRotation)
		require.GreaterOrEqual(t, prob.status, 400)
		_, err = json.Marshal(adminError(prob, "", time.Now()))
		require.NoError(t, err)
	})
}
