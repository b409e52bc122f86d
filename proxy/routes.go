// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package proxy

import (
	"context"
	"maps"
	"net/http"
	"path"
	"slices"
	"strings"
)

// handler answers a request, or returns an error before it has written anything.
type handler func(http.ResponseWriter, *http.Request) error

// methods are the handlers of one path. A GET handler takes HEAD too: net/http
// leaves out the body.
type methods map[string]handler

// routes is the table of all that the proxy serves. openapi.json describes it.
func (p *Proxy) routes() map[string]methods {
	settings := methods{
		http.MethodGet:   p.getSettings,
		http.MethodPatch: p.changeSettings,
		http.MethodPost:  p.changeSettings,
	}
	table := map[string]methods{
		"/api/v1/admin/dek/rotate":              {http.MethodPost: p.startRotation},
		"/api/v1/admin/dek/rotate/{rotationId}": {http.MethodGet: p.getRotation},
		"/public/core/v3/key/rotationSettings":  settings,
		"/public/core/v3/login":                 {http.MethodPost: p.userLogin},
		"/public/core/v3/logout":                {http.MethodPost: p.userLogout},
		"/openapi.json":                         {http.MethodGet: p.getOpenAPI},
	}
	for path, m := range table {
		if strings.HasPrefix(path, "/public/") {
			table["/saas"+path] = m
		}
	}
	maps.Copy(table, p.healthRoutes())
	return table
}

func (p *Proxy) healthRoutes() map[string]methods {
	return map[string]methods{
		"/health":        {http.MethodGet: p.getHealth},
		"/api/v1/health": {http.MethodGet: p.getHealth},
	}
}

// adminRoutes are those that -admin-listen moves.
func (p *Proxy) adminRoutes() map[string]methods {
	return map[string]methods{
		"/api/v1/admin/health": {http.MethodGet: p.getAdminHealth},
		"/metrics":             {http.MethodGet: p.getMetrics},
	}
}

// muxes dispatch what callers ask for, and what operators do. The health is at both.
func (p *Proxy) muxes(separate bool) (callers, operators *http.ServeMux) {
	main, admin := p.routes(), p.adminRoutes()
	if !separate {
		maps.Copy(main, admin)
	}
	maps.Copy(admin, p.healthRoutes())
	callers, operators = p.newMux(main), p.newMux(admin)
	callers.Handle("/ui/", p.handle(p.page))
	return callers, operators
}

func (p *Proxy) newMux(table map[string]methods) *http.ServeMux {
	mux := http.NewServeMux()
	for pattern, m := range table {
		mux.Handle(pattern, p.handle(m.serve))
	}
	mux.Handle("/", p.handle(notFound))
	return mux
}

// serve picks the handler of the method.
func (m methods) serve(w http.ResponseWriter, r *http.Request) error {
	method := r.Method
	if method == http.MethodHead {
		method = http.MethodGet
	}
	if h, ok := m[method]; ok {
		return h(w, r)
	}
	w.Header().Set("Allow", m.allow())
	return &problem{
		status: http.StatusMethodNotAllowed, code: codeMethod,
		message: "Method not allowed", reason: "allowed here: " + m.allow(),
	}
}

func (m methods) allow() string {
	names := make([]string, 0, len(m)+1)
	for name := range m {
		names = append(names, name)
		if name == http.MethodGet {
			names = append(names, http.MethodHead)
		}
	}
	slices.Sort(names)
	return strings.Join(names, ", ")
}

func notFound(http.ResponseWriter, *http.Request) error {
	return &problem{
		status: http.StatusNotFound, code: codeNotFound,
		message: "Not found", reason: "no such route",
	}
}

// route dispatches. A path that ServeMux would clean up and redirect, or not
// look at as a path, is no route: a redirect would lose the envelope.
func (p *Proxy) route(mux *http.ServeMux, w http.ResponseWriter, r *http.Request) {
	if !isClean(r.URL.Path) {
		p.handle(notFound).ServeHTTP(w, r)
		return
	}
	mux.ServeHTTP(w, r)
}

func isClean(urlPath string) bool {
	if !strings.HasPrefix(urlPath, "/") {
		return false
	}
	clean := path.Clean(urlPath)
	return clean == urlPath || clean+"/" == urlPath
}

// handle takes the body, sets the deadline, and turns what a handler returns into
// the envelope of the path's family.
func (p *Proxy) handle(h handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if prob := p.takeBody(w, r); prob != nil {
			p.fail(w, r, prob)
			return
		}
		ctx, cancel := context.WithTimeout(r.Context(), p.timeout)
		defer cancel()
		if err := h(w, r.WithContext(ctx)); err != nil {
			p.fail(w, r, asProblem(err, missing{}))
		}
	})
}

// fail answers with an error.
func (p *Proxy) fail(w http.ResponseWriter, r *http.Request, prob *problem) {
	ex, fam := exchangeOf(r.Context()), familyOf(r.URL.Path)
	if prob.cause != nil && prob.status >= http.StatusInternalServerError {
		p.log.Error("request failed", "request_id", ex.id, "status", prob.status, "error", prob.cause)
	}
	ex.reason = prob.why()
	if prob.status == http.StatusUnauthorized && fam.challenge != "" {
		w.Header().Set("WWW-Authenticate", fam.challenge)
	}
	if prob.retryAfter != "" {
		w.Header().Set("Retry-After", prob.retryAfter)
	}
	if err := writeJSON(w, prob.status, fam.envelope(prob, ex.id, p.now())); err != nil {
		p.log.Error("an error could not be encoded", "request_id", ex.id, "error", err)
		w.WriteHeader(http.StatusInternalServerError)
	}
}
