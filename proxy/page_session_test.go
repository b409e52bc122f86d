// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package proxy

import (
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/vault-plugin-dek/vault-plugin-dek/proxy/vault/vaulttest"
)

func TestPageNeedsASignIn(t *testing.T) {
	s := pageStand(t)
	b := newBrowser(t, s)
	w := b.get("/ui/")
	require.Equal(t, 200, w.Code)
	require.Contains(t, w.Body.String(), "Sign in")
	for _, path := range []string{"/ui/fleet", tenantPath, "/ui/evidence/key", "/ui/no/such/page"} {
		require.Equal(t, 401, b.get(path).Code, path)
	}
	require.Equal(t, 401, b.post(tenantPath+"/rotate").Code)
	require.Empty(t, s.vault.Calls())
}

// A method that a page does not have is 405 with those that it has, before anybody is asked
// to sign in.
func TestPageMethods(t *testing.T) {
	s := pageStand(t)
	for _, b := range []*browser{newBrowser(t, s), signedIn(t, s, mayAll)} {
		for target, allowed := range map[string]string{
			"DELETE /ui/": "GET, HEAD", "POST /ui/": "GET, HEAD", "OPTIONS /ui/settings": "GET, HEAD, POST",
			"POST /ui/fleet": "GET, HEAD", "GET /ui/sign-out": "POST", "PUT " + tenantPath: "GET, HEAD",
		} {
			method, path, _ := strings.Cut(target, " ")
			w := b.send(method, path, url.Values{"csrf": {b.csrf}})
			require.Equal(t, 405, w.Code, target)
			require.Equal(t, allowed, w.Header().Get("Allow"), target)
			require.Contains(t, w.Header().Get("Content-Security-Policy"), "default-src 'none'", target)
		}
	}
}

func TestPageHeaders(t *testing.T) {
	b := signedIn(t, pageStand(t), mayAll)
	for _, path := range []string{"/ui/", "/ui/fleet", tenantPath, "/ui/static/style.css", "/ui/static/none.css", "/ui/none"} {
		h := b.get(path).Header()
		require.Contains(t, h.Get("Content-Security-Policy"), "default-src 'none'", path)
		require.Contains(t, h.Get("Content-Security-Policy"), "frame-ancestors 'none'", path)
		require.NotContains(t, h.Get("Content-Security-Policy"), "unsafe", path)
		require.Equal(t, "nosniff", h.Get("X-Content-Type-Options"), path)
		require.Equal(t, "no-store", h.Get("Cache-Control"), path)
		require.Equal(t, "DENY", h.Get("X-Frame-Options"), path)
		require.Equal(t, "same-origin", h.Get("Cross-Origin-Opener-Policy"), path)
		require.Equal(t, "no-referrer", h.Get("Referrer-Policy"), path)
	}
}

func TestPageCookies(t *testing.T) {
	for _, tc := range []struct {
		host, publicURL, name string
		secure                bool
	}{
		{"127.0.0.1:8080", "", "dek-session", false},
		{"localhost:8080", "", "dek-session", false},
		{"[::1]:8080", "", "dek-session", false},
		{"dek.example", "", "__Host-dek-session", true},
		{"127.0.0.1.evil.example", "", "__Host-dek-session", true},
		{"127.0.0.1:8080", "https://dek.example", "__Host-dek-session", true},
	} {
		s := pageStand(t, func(c *Config) { c.PublicURL = tc.publicURL })
		allow(s, mayAll)
		b := newBrowser(t, s)
		b.host = tc.host
		b.get("/ui/")
		require.Equal(t, 303, b.post("/ui/sign-in", "way", "token", "token", "hvs.person").Code, tc.host)
		c := b.cookies[tc.name]
		require.NotNil(t, c, tc.host)
		require.Equal(t, tc.secure, c.Secure)
		require.True(t, c.HttpOnly)
		require.Equal(t, http.SameSiteStrictMode, c.SameSite)
		require.NotContains(t, c.Value, "hvs.")
	}
}

func TestPageSignInMakesAFreshSession(t *testing.T) {
	s := pageStand(t)
	b := signedIn(t, s, mayAll)
	first := b.cookies["dek-session"]
	planted := &http.Cookie{Name: "dek-session", Value: "PLANTEDPLANTEDPLANTEDPLANT"}
	b.cookies = map[string]*http.Cookie{"dek-session": planted}
	b.get("/ui/")
	b.post("/ui/sign-in", "way", "token", "token", "hvs.person")
	require.NotEqual(t, planted.Value, b.cookies["dek-session"].Value)
	require.NotEqual(t, first.Value, b.cookies["dek-session"].Value)
}

func TestPageSignsInWithAPasswordAndRevokesItsToken(t *testing.T) {
	s := userStand(t)
	s.vault.On(atUserLogin, vaulttest.Reply(200, `{"auth": {"client_token": "hvs.user", "lease_duration": 60, "token_type": "service",
		"metadata": {"username": "alice"}}}`))
	allow(s, nil)
	b := newBrowser(t, s)
	b.get("/ui/")
	w := b.post("/ui/sign-in", "way", "password", "username", "alice", "password", "s3cret")
	require.Equal(t, 303, w.Code, w.Body.String())
	require.Contains(t, b.get("/ui/").Body.String(), "alice")
	require.Equal(t, 303, b.post("/ui/sign-out").Code)
	require.Equal(t, "hvs.user", s.vault.Seen(vaulttest.AtRevoke)[0].Token)
	require.Equal(t, 401, b.get("/ui/fleet").Code)
}

// TestPageSignsInWithAJWT: the session ends with the JWT, and its own tenant is where it
// begins where the fleet may not be seen.
func TestPageSignsInWithAJWT(t *testing.T) {
	s := pageStand(t)
	allow(s, map[string]string{"tenants/" + tenantID + "/dek": "read"})
	b := newBrowser(t, s)
	b.get("/ui/")
	require.Equal(t, 303, b.post("/ui/sign-in", "way", "jwt", "jwt", s.goodJWT()).Code)
	require.Equal(t, tenantPath, b.get("/ui/").Header().Get("Location"))
	require.Equal(t, 200, b.get(tenantPath).Code)
	s.clock.advance(time.Hour)
	w := b.get(tenantPath)
	require.Equal(t, 401, w.Code)
	require.Contains(t, w.Body.String(), "session has ended")
	require.Contains(t, w.Body.String(), `name="next" value="`+tenantPath+`"`)
}

func TestPageSessionEndsWithTheToken(t *testing.T) {
	s := pageStand(t)
	b := signedIn(t, s, mayAll)
	require.Equal(t, 200, b.get("/ui/fleet").Code)
	s.vault.On(atCapabilities, vaulttest.Reply(403, vaulttest.InvalidToken))
	s.vault.On(vaulttest.AtSelf, vaulttest.Reply(403, vaulttest.InvalidToken))
	require.Equal(t, 401, b.get("/ui/fleet").Code)
	allow(s, mayAll)
	require.Equal(t, 401, b.get("/ui/fleet").Code, "the session is over, whatever Vault says later")
}

// TestPageGoesOnWhereTheSessionEnded: with the view, not with what its form would have done.
func TestPageGoesOnWhereTheSessionEnded(t *testing.T) {
	for form, view := range map[string]string{
		tenantPath + "/rotate": tenantPath, tenantPath + "/rotations/" + rotationID: tenantPath, tenantPath + "/versions/1": tenantPath,
		"/ui/settings": "/ui/settings", "/ui/campaigns": "/ui/campaigns", "/ui/sign-out": "",
	} {
		s := pageStand(t)
		b := signedIn(t, s, mayAll)
		s.clock.advance(9 * time.Hour)
		w := b.post(form)
		require.Equal(t, 401, w.Code, form)
		require.Equal(t, form != "/ui/sign-out", strings.Contains(w.Body.String(), "nothing was changed"), form)
		require.Contains(t, w.Body.String(), `name="next" value="`+view+`"`, form)
	}
}

// TestPageIsOneProxys: a session and a form to sign in are of the proxy that made them, so a
// load balancer must lead a browser to the same one.
func TestPageIsOneProxys(t *testing.T) {
	one, other := pageStand(t), pageStand(t)
	b := signedIn(t, one, mayAll)
	allow(other, mayAll)
	elsewhere := newBrowser(t, other)
	elsewhere.cookies = b.cookies
	w := elsewhere.get("/ui/fleet")
	require.Equal(t, 401, w.Code)
	require.Contains(t, w.Body.String(), "session has ended")

	form := newBrowser(t, one)
	form.get("/ui/")
	elsewhere = newBrowser(t, other)
	elsewhere.cookies, elsewhere.csrf = form.cookies, form.csrf
	require.Equal(t, 403, elsewhere.post("/ui/sign-in", "way", "token", "token", "hvs.person").Code)
	require.Empty(t, other.vault.Seen(vaulttest.AtSelf))
}

func TestPageRefusedSignIns(t *testing.T) {
	s := pageStand(t, func(c *Config) { c.RefusedPerAddress = 3 })
	s.vault.On(vaulttest.AtSelf, vaulttest.Reply(403, vaulttest.InvalidToken))
	b := newBrowser(t, s)
	b.get("/ui/")
	for range 3 {
		w := b.post("/ui/sign-in", "way", "token", "token", "hvs.guess")
		require.Equal(t, 401, w.Code)
		require.NotContains(t, w.Body.String(), "hvs.guess")
	}
	w := b.post("/ui/sign-in", "way", "token", "token", "hvs.guess")
	require.Equal(t, 429, w.Code, "the proxy's throttle is the page's")
	require.NotEmpty(t, w.Header().Get("Retry-After"))
}

func TestPageWantsItsOwnForms(t *testing.T) {
	s := pageStand(t)
	b := signedIn(t, s, mayAll)
	b.get(tenantPath)
	good := url.Values{"csrf": {b.csrf}, "reason": {"x"}}
	for name, w := range map[string]*httptest.ResponseRecorder{
		"no token":      b.send("POST", tenantPath+"/rotate", url.Values{"reason": {"x"}}),
		"another token": b.send("POST", tenantPath+"/rotate", url.Values{"csrf": {"AAAA"}}),
		"another site":  b.send("POST", tenantPath+"/rotate", good, header("Sec-Fetch-Site", "cross-site")),
		"old browser":   b.send("POST", tenantPath+"/rotate", good, header("Sec-Fetch-Site"), header("Origin", "https://evil.example")),
		"sign-in":       newBrowser(t, s).send("POST", "/ui/sign-in", url.Values{"way": {"token"}, "token": {"hvs.attacker"}}),
	} {
		require.Equal(t, 403, w.Code, name)
	}
	require.Empty(t, s.vault.Seen(vaulttest.AtRotate))
	require.Equal(t, 303, b.send("POST", tenantPath+"/rotate", good).Code)
	require.Equal(t, "x", s.vault.Seen(vaulttest.AtRotate)[0].Body["reason"])
	require.Equal(t, "hvs.person", s.vault.Seen(vaulttest.AtRotate)[0].Token)
}

func TestPageRedirectsNowhereElse(t *testing.T) {
	for _, next := range []string{"https://evil.example/ui/", "//evil.example", "/ui//evil.example", "/ui/../api", `/ui/\evil.example`, "/api", ""} {
		s := pageStand(t)
		allow(s, mayAll)
		b := newBrowser(t, s)
		b.get("/ui/")
		w := b.post("/ui/sign-in", "way", "token", "token", "hvs.person", "next", next)
		require.Equal(t, "/ui/", w.Header().Get("Location"), next)
	}
}
