// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package ui

import (
	"crypto/rand"
	"errors"
	"net/http"
	"strings"
	"time"
)

// Root is where the page is.
const Root = "/ui/"

// Config is what the page is made of.
type Config struct {
	Host Host
	// PublicURL is what people reach the proxy as, if that is configured.
	PublicURL string
	// Now is the clock. Default: time.Now.
	Now func() time.Time
}

// site is the page's http.Handler.
type site struct {
	host      Host
	publicURL string
	sessions  *sessions
	views     *views
	// signInKey makes the CSRF tokens of people who have no session yet.
	signInKey []byte
	origin    *http.CrossOriginProtection
	mux       *http.ServeMux
}

// New returns the page's handler. It serves what is below Root.
func New(cfg Config) (http.Handler, error) {
	if cfg.Host == nil {
		return nil, errors.New("ui: a host is required")
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	s := &site{
		host: cfg.Host, publicURL: cfg.PublicURL, signInKey: []byte(rand.Text()),
		origin: http.NewCrossOriginProtection(), mux: http.NewServeMux(),
	}
	var err error
	if s.sessions, err = newSessions(cfg.Now); err != nil {
		return nil, err
	}
	if s.views, err = newViews(cfg.Now); err != nil {
		return nil, err
	}
	s.routes()
	return s, nil
}

func (s *site) routes() {
	s.mux.HandleFunc("GET "+Root+"static/{file}", s.static)
	s.mux.HandleFunc("POST "+Root+"sign-in", s.signIn)
	s.mux.HandleFunc(Root, func(w http.ResponseWriter, r *http.Request) {
		s.member(func(*visit) error { return &Refusal{Status: http.StatusNotFound, Reason: text("error.no-page")} })(w, r)
	})
	for pattern, h := range map[string]func(*visit) error{
		"GET {$}":                                  s.home,
		"POST sign-out":                            s.signOut,
		"GET fleet":                                s.fleet,
		"GET tenants":                              s.findTenant,
		"GET tenants/{tenant}":                     s.tenant,
		"GET tenants/{tenant}/progress":            s.progress,
		"POST tenants/{tenant}/rotate":             s.rotate,
		"POST tenants/{tenant}/settings":           s.changeTenant,
		"POST tenants/{tenant}/delete":             s.deleteTenant,
		"POST tenants/{tenant}/restore":            s.restoreTenant,
		"GET tenants/{tenant}/evidence/{index}":    s.tenantEntry,
		"GET tenants/{tenant}/rotations/{id}":      s.rotation,
		"POST tenants/{tenant}/rotations/{id}":     s.act,
		"POST tenants/{tenant}/versions/{version}": s.destroyVersion,
		"POST tenants/{tenant}/destroy":            s.destroyVersion,
		"GET settings":                             s.settings,
		"POST settings":                            s.changeSettings,
		"GET campaigns":                            s.campaigns,
		"POST campaigns":                           s.startCampaign,
		"GET providers":                            s.providers,
		"GET evidence":                             s.evidence,
		"GET evidence/entries/{index}":             s.entry,
		"GET evidence/verify":                      s.verify,
		"GET evidence/report":                      s.report,
		"GET evidence/key":                         s.evidenceKey,
		"GET evidence/tlog/{path...}":              s.evidenceFile,
	} {
		method, path, _ := strings.Cut(pattern, " ")
		s.mux.HandleFunc(method+" "+Root+path, s.member(h))
	}
}

// policy allows what the page's own files need, and no exception: nothing in the HTML
// runs, and no script can turn text into HTML.
const policy = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; " +
	"form-action 'self'; base-uri 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'"

// ServeHTTP implements http.Handler.
func (s *site) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	h := w.Header()
	h.Set("Content-Security-Policy", policy)
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("X-Frame-Options", "DENY")
	h.Set("Referrer-Policy", "no-referrer")
	h.Set("Cross-Origin-Opener-Policy", "same-origin")
	h.Set("Cross-Origin-Resource-Policy", "same-origin")
	h.Set("Permissions-Policy", "camera=(), geolocation=(), microphone=()")
	h.Set("Cache-Control", "no-store")
	if err := s.origin.Check(r); err != nil {
		s.views.refuse(w, nil, &Refusal{Status: http.StatusForbidden, Reason: text("error.csrf")})
		return
	}
	if allowed := s.otherMethods(r); allowed != "" {
		h.Set("Allow", allowed)
		s.views.refuse(w, nil, &Refusal{Status: http.StatusMethodNotAllowed, Reason: text("error.method")})
		return
	}
	s.mux.ServeHTTP(w, r)
}

// otherMethods names the methods of a path that has the request's not; empty: it has it, or
// there is no such path.
func (s *site) otherMethods(r *http.Request) string {
	if _, pattern := s.mux.Handler(r); pattern != Root {
		return ""
	}
	var allowed []string
	for _, method := range []string{http.MethodGet, http.MethodHead, http.MethodPost} {
		other := r.Clone(r.Context())
		other.Method = method
		if _, pattern := s.mux.Handler(other); pattern != Root {
			allowed = append(allowed, method)
		}
	}
	return strings.Join(allowed, ", ")
}

// member serves people who have signed in, and shows the others where to.
func (s *site) member(h func(*visit) error) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		v := &visit{site: s, w: w, r: r, session: s.current(r)}
		if v.session == nil {
			s.askToSignIn(v, s.hadSession(r))
			return
		}
		if r.Method == http.MethodPost && !v.session.owns(r.PostFormValue("csrf")) {
			s.views.refuse(w, v, &Refusal{Status: http.StatusForbidden, Reason: text("error.csrf")})
			return
		}
		err := h(v)
		if err == nil {
			return
		}
		var refused *Refusal
		if !errors.As(err, &refused) {
			refused = &Refusal{Status: http.StatusInternalServerError, Reason: text("error.fault")}
		}
		if refused.Status == http.StatusUnauthorized {
			s.forget(v)
			s.askToSignIn(v, true)
			return
		}
		if v.caps == nil && refused.Status < http.StatusInternalServerError {
			// Without it the error is shown without the navigation.
			_ = v.learn(r.Context())
		}
		s.views.refuse(w, v, refused)
	}
}
