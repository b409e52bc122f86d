// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package ui

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"errors"
	"net"
	"net/http"
	"net/netip"
	"strings"
)

// cookie names. The prefix makes browsers refuse one that another host, or a page
// without TLS, has set.
const (
	sessionCookie = "dek-session"
	signInCookie  = "dek-sign-in"
	hostPrefix    = "__Host-"
)

// isSecure is false for a browser on the proxy's own host that speaks plain HTTP: some
// browsers do not keep a Secure cookie there.
func (s *site) isSecure(r *http.Request) bool {
	if r.TLS != nil || strings.HasPrefix(s.publicURL, "https://") {
		return true
	}
	host, _, err := net.SplitHostPort(r.Host)
	if err != nil {
		host = strings.Trim(r.Host, "[]")
	}
	addr, err := netip.ParseAddr(host)
	return host != "localhost" && (err != nil || !addr.IsLoopback())
}

func (s *site) setCookie(w http.ResponseWriter, r *http.Request, name, value string) {
	secure := s.isSecure(r)
	if secure {
		name = hostPrefix + name
	}
	// #nosec G124 -- Secure, but on loopback
	c := &http.Cookie{Name: name, Value: value, Path: "/", HttpOnly: true, Secure: secure, SameSite: http.SameSiteStrictMode}
	if value == "" {
		c.MaxAge = -1
	}
	http.SetCookie(w, c)
}

func (s *site) cookie(r *http.Request, name string) string {
	if s.isSecure(r) {
		name = hostPrefix + name
	}
	c, err := r.Cookie(name)
	if err != nil {
		return ""
	}
	return c.Value
}

func (s *site) current(r *http.Request) *session { return s.sessions.find(s.cookie(r, sessionCookie)) }

func (s *site) hadSession(r *http.Request) bool { return s.cookie(r, sessionCookie) != "" }

// forget ends the session of a visit.
func (s *site) forget(v *visit) {
	s.sessions.end(s.cookie(v.r, sessionCookie))
	s.setCookie(v.w, v.r, sessionCookie, "")
	v.session = nil
}

// owns reports whether a CSRF token is the session's.
func (s *session) owns(token string) bool {
	return subtle.ConstantTimeCompare([]byte(s.csrf), []byte(token)) == 1
}

// signInToken is the CSRF token of somebody without a session: good with the cookie
// that it was made for.
func (s *site) signInToken(cookie string) string {
	mac := hmac.New(sha256.New, s.signInKey)
	mac.Write([]byte(cookie))
	return hex.EncodeToString(mac.Sum(nil))
}

// signInPage is the data of the sign-in view.
type signInPage struct {
	Realms        []string
	Realm         string
	Username, Way string
	Next          string
	Token         string
	Problem       string
	Ended         bool
	// Undone: a form was sent after the session had ended.
	Undone bool
}

// askToSignIn shows the form. Where a session has ended in the middle it says so, and
// afterwards goes on with the view that was asked for.
func (s *site) askToSignIn(v *visit, ended bool) {
	data := &signInPage{Ended: ended && v.r.URL.Path != Root+"sign-out", Next: viewOf(v.r)}
	data.Undone = data.Ended && v.r.Method == http.MethodPost
	status := http.StatusOK
	if ended || v.r.URL.Path != Root {
		status = http.StatusUnauthorized
	}
	s.showSignIn(v, status, data)
}

// viewOf returns where to go on after the sign-in: the view that was asked for, or the one
// whose form was sent.
func viewOf(r *http.Request) string {
	if r.Method == http.MethodGet {
		return r.URL.RequestURI()
	}
	view, rest, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, Root), "/")
	tenant, _, _ := strings.Cut(rest, "/")
	switch {
	case view == "tenants" && uuidForm.MatchString(tenant):
		return Root + view + "/" + tenant
	case view == "settings", view == "campaigns":
		return Root + view
	}
	return ""
}

func (s *site) showSignIn(v *visit, status int, data *signInPage) {
	nonce := s.cookie(v.r, signInCookie)
	if nonce == "" {
		nonce = rand.Text()
		s.setCookie(v.w, v.r, signInCookie, nonce)
	}
	data.Token, data.Realms = s.signInToken(nonce), s.host.Realms()
	if data.Realm == "" {
		data.Realm = s.host.DefaultRealm()
	}
	s.views.show(v, status, "sign-in", text("sign-in.title"), data)
}

// signIn is POST /ui/sign-in.
func (s *site) signIn(w http.ResponseWriter, r *http.Request) {
	v := &visit{site: s, w: w, r: r}
	nonce := s.cookie(r, signInCookie)
	if nonce == "" || !hmac.Equal([]byte(s.signInToken(nonce)), []byte(r.PostFormValue("csrf"))) {
		s.showSignIn(v, http.StatusForbidden, &signInPage{Problem: text("sign-in.cookie")})
		return
	}
	data := &signInPage{
		Realm: r.PostFormValue("realm"), Username: r.PostFormValue("username"), Way: r.PostFormValue("way"), Next: r.PostFormValue("next"),
	}
	account, err := s.host.SignIn(r.Context(), credentials(r))
	if err != nil {
		var refused *Refusal
		if !errors.As(err, &refused) {
			refused = &Refusal{Status: http.StatusInternalServerError, Reason: text("error.fault")}
		}
		data.Problem = text("sign-in.refused", refused.Reason)
		if refused.RetryAfter != "" {
			w.Header().Set("Retry-After", refused.RetryAfter)
		}
		s.showSignIn(v, refused.Status, data)
		return
	}
	// The session that the browser had before ends: an attacker may have planted its cookie.
	s.sessions.end(s.cookie(r, sessionCookie))
	s.setCookie(w, r, signInCookie, "")
	s.setCookie(w, r, sessionCookie, s.sessions.begin(account))
	http.Redirect(w, r, ownPath(data.Next), http.StatusSeeOther)
}

// credentials reads what the form's chosen way has.
func credentials(r *http.Request) Credentials {
	c := Credentials{Realm: r.PostFormValue("realm")}
	switch r.PostFormValue("way") {
	case "jwt":
		c.JWT = strings.TrimSpace(r.PostFormValue("jwt"))
	case "token":
		c.Token = strings.TrimSpace(r.PostFormValue("token"))
	default:
		c.Username, c.Password = strings.TrimSpace(r.PostFormValue("username")), r.PostFormValue("password")
	}
	return c
}

// ownPath is a path of the page, or its beginning: a redirect leads nowhere else.
func ownPath(next string) string {
	if !strings.HasPrefix(next, Root) || strings.ContainsAny(next, "\\\r\n") || strings.Contains(next, "//") || strings.Contains(next, "..") {
		return Root
	}
	return next
}

// signOut is POST /ui/sign-out.
func (s *site) signOut(v *visit) error {
	account := v.session.account
	s.forget(v)
	// A token that Vault does not end now ends by itself; the session is over.
	_ = account.End(v.r.Context())
	http.Redirect(v.w, v.r, Root, http.StatusSeeOther)
	return nil
}
