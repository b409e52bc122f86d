// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package proxy

import (
	"encoding/json"
	"html"
	"net/http"
	"net/http/httptest"
	"net/url"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/vault-plugin-dek/vault-plugin-dek/proxy/vault/vaulttest"
)

const (
	atCapabilities = "PUT /v1/sys/capabilities-self"
	atFleet        = "GET /v1/dek/fleet"
	atTenant       = "GET /v1/dek/tenants/" + tenantID
	tenantPath     = "/ui/tenants/" + tenantID
	evilName       = `<script>alert(1)</script>"'><img src=x onerror=alert(2)>`
)

// browser keeps cookies, as a browser does, and the CSRF token of the last form.
type browser struct {
	*stand
	t       *testing.T
	host    string
	cookies map[string]*http.Cookie
	csrf    string
}

var csrfField = regexp.MustCompile(`name="csrf" value="([^"]+)"`)

func newBrowser(t *testing.T, s *stand) *browser {
	return &browser{stand: s, t: t, host: "127.0.0.1:8080", cookies: map[string]*http.Cookie{}}
}

func (b *browser) send(method, target string, form url.Values, edits ...edit) *httptest.ResponseRecorder {
	b.t.Helper()
	r := httptest.NewRequest(method, target, strings.NewReader(form.Encode()))
	r.Host = b.host
	if method == http.MethodPost {
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		r.Header.Set("Sec-Fetch-Site", "same-origin")
	}
	for _, c := range b.cookies {
		r.AddCookie(c)
	}
	for _, e := range edits {
		e(r)
	}
	w := httptest.NewRecorder()
	b.ServeHTTP(w, r)
	for _, c := range w.Result().Cookies() {
		b.cookies[c.Name] = c
		if c.MaxAge < 0 {
			delete(b.cookies, c.Name)
		}
	}
	if found := csrfField.FindStringSubmatch(w.Body.String()); found != nil {
		b.csrf = html.UnescapeString(found[1])
	}
	return w
}

func (b *browser) get(target string, edits ...edit) *httptest.ResponseRecorder {
	b.t.Helper()
	return b.send(http.MethodGet, target, nil, edits...)
}

// post sends a form with the CSRF token of the page before.
func (b *browser) post(target string, fields ...string) *httptest.ResponseRecorder {
	b.t.Helper()
	form := url.Values{"csrf": {b.csrf}}
	for i := 0; i < len(fields); i += 2 {
		form.Set(fields[i], fields[i+1])
	}
	return b.send(http.MethodPost, target, form)
}

// signedIn is a person with a Vault token, which may what the capabilities say: by
// path below the mount, all others denied.
func signedIn(t *testing.T, s *stand, capabilities map[string]string) *browser {
	t.Helper()
	allow(s, capabilities)
	b := newBrowser(t, s)
	b.get("/ui/")
	w := b.post("/ui/sign-in", "way", "token", "token", "hvs.person")
	require.Equal(t, http.StatusSeeOther, w.Code, w.Body.String())
	return b
}

// allow sets what every token may.
func allow(s *stand, capabilities map[string]string) {
	s.vault.On(atCapabilities, func(w http.ResponseWriter, r *http.Request) {
		var asked struct {
			Paths []string `json:"paths"`
		}
		_ = json.NewDecoder(r.Body).Decode(&asked)
		data := map[string]any{}
		for _, p := range asked.Paths {
			have, ok := capabilities[strings.TrimPrefix(p, "dek/")]
			if !ok {
				have = "deny"
			}
			data[p] = strings.Split(have, ",")
		}
		raw, _ := json.Marshal(map[string]any{"data": data})
		vaulttest.Reply(200, string(raw))(w, r)
	})
}

func pageStand(t *testing.T, change ...func(*Config)) *stand {
	s := newStand(t, change...)
	s.vault.On(atFleet, vaulttest.Reply(200, `{"data": {"tenants": [{"tenant_id": "`+tenantID+`", "display_name": `+quoted(evilName)+`,
		"state": "active", "current_version": 3, "overdue": true, "rotation_status": "failed"}],
		"key_ages": [{"from_days": 0, "to_days": 30, "tenants": 1}, {"from_days": 30, "to_days": null, "tenants": 0}],
		"due_by_week": [{"from": null, "to": "2025-07-10T00:00:00Z", "tenants": 1}]}}`))
	s.vault.On(atTenant, vaulttest.Reply(200, `{"data": {"tenant_id": "`+tenantID+`", "display_name": `+quoted(evilName)+`, "state": "active",
		"key_type": "xaes256-gcm", "created_at": "2025-01-01T00:00:00Z", "item_counts": {"credentials": 25, "api_keys": 10, "secrets": 50}}}`))
	s.vault.On(atTenant[:4]+"/v1/dek/tenants/"+tenantID+"/dek", vaulttest.Reply(200, `{"data": {"current_version": 2, "current_key_id": "dek-new",
		"min_decryption_version": 1, "versions": [
		{"version": 1, "key_id": "dek-old", "state": "deactivated", "activated_at": "2025-01-01T00:00:00Z", "deactivated_at": "2025-06-01T00:00:00Z", "pages": 0},
		{"version": 2, "key_id": "dek-new", "state": "active", "activated_at": "2025-06-01T00:00:00Z", "pages": 4}]}}`))
	s.vault.On("GET /v1/dek/tenants/"+tenantID+"/dek/rotations", vaulttest.Reply(200, `{"data": {"keys": ["`+rotationID+`"]}}`))
	return s
}

func quoted(s string) string {
	raw, _ := json.Marshal(s)
	return string(raw)
}

// mayAll is a person who may see and do everything with the tenant.
var mayAll = map[string]string{
	"fleet": "read", "tenants/" + tenantID: "read,update,delete", "tenants/" + tenantID + "/dek": "read",
	"tenants/" + tenantID + "/dek/rotate": "update", "tenants/" + tenantID + "/dek/rotations": "list",
	"tenants/" + tenantID + "/dek/rotations/rot-00000000-0000-4000-8000-000000000000/pause": "update",
	"tenants/" + tenantID + "/dek/versions/1/destroy":                                       "update",
}
