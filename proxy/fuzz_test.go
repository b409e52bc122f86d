// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package proxy

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// FuzzParseJWT checks what a JWT that passes must be like.
func FuzzParseJWT(f *testing.F) {
	now := newClock().now()
	future := now.Add(time.Hour).Unix()
	for _, seed := range []string{
		jwt(map[string]any{"exp": future, "tenant_id": tenantID, "sub": "u", "roles": []string{}}),
		jwt(map[string]any{"exp": 1e300}), jwt(map[string]any{"exp": -1}), jwt(map[string]any{"tenant_id": "+"}),
		jwt(map[string]any{"exp": float64(future) + 0.5}), jwt(map[string]any{"tenant_id": nil}),
		"", "..", "a.b.c", "eyJhbGciOiJub25lIn0.e30.", "hvs.abc.def", strings.Repeat("a", maxJWT+1),
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, token string) {
		claim, prob := parseJWT(token, now)
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
	})
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
	s.Proxy.vault = fake
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
	s := newStand(f)
	for _, session := range []string{s.goodJWT(), "hvs.token", "", "a b", "x.y.z", "hvs.\n"} {
		for _, text := range []string{`{"rotationInterval": "120_DAYS"}`, `{"rotationInterval": 5}`, "", "{}{}"} {
			f.Add(session, text)
		}
	}
	fake := &recordingVault{}
	s.Proxy.vault = fake
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
