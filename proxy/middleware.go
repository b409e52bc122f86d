// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package proxy

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"regexp"
	"runtime"
	"runtime/debug"

	"github.com/vault-plugin-dek/vault-plugin-dek/proxy/vault"
)

var requestIDForm = regexp.MustCompile(`^[A-Za-z0-9._-]{1,128}$`)

// ServeHTTP implements http.Handler.
func (p *Proxy) ServeHTTP(w http.ResponseWriter, r *http.Request) { p.serve(p.mux, w, r) }

// Admin serves /metrics, the admin health and the health, for a listener of their own.
func (p *Proxy) Admin() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { p.serve(p.adminMux, w, r) })
}

// serve is what all requests have in common: request ID, client, routing, recovery
// from a panic, then metrics and one line in the log.
func (p *Proxy) serve(mux *http.ServeMux, w http.ResponseWriter, r *http.Request) {
	start := p.now()
	ex := &exchange{id: r.Header.Get("X-Request-Id")}
	if !requestIDForm.MatchString(ex.id) {
		ex.id = newID()
	}
	w.Header().Set("X-Request-Id", ex.id)
	if client := clientAddress(r, p.trusted); client.IsValid() {
		ex.client, ex.addressKey = client.String(), addressKey(client)
	}
	ctx := vault.WithTrace(r.Context(), vault.Trace{RequestID: ex.id, ClientAddress: ex.client})
	r = r.WithContext(context.WithValue(ctx, exchangeKey{}, ex))
	rec := &recorder{ResponseWriter: w}

	defer func() {
		panicked := recover()
		if panicked != nil {
			p.recovered(rec, r, panicked)
		}
		duration := p.now().Sub(start)
		route, method := routeLabel(r), methodLabel(r.Method)
		p.metrics.request(route, method, rec.statusCode(), duration)
		p.log.Info("request", "method", method, "route", route, "status", rec.statusCode(),
			"duration_ms", duration.Milliseconds(), "request_id", ex.id, "tenant_id", ex.tenant,
			"client", ex.client, "entity_id", ex.entity, "reason", ex.reason)
		if err, ok := panicked.(error); ok && errors.Is(err, http.ErrAbortHandler) {
			panic(panicked)
		}
	}()
	p.route(mux, rec, r)
}

// recovered answers for a handler that panicked, unless it had begun to.
func (p *Proxy) recovered(rec *recorder, r *http.Request, panicked any) {
	err, ok := panicked.(error)
	if ok && errors.Is(err, http.ErrAbortHandler) {
		return
	}
	// What was panicked with may hold anything; only the runtime's own texts
	// are known to be harmless.
	cause := fmt.Sprintf("%T", panicked)
	var fault runtime.Error
	if ok && errors.As(err, &fault) {
		cause = fault.Error()
	}
	p.log.Error("panic", "request_id", exchangeOf(r.Context()).id, "cause", cause, "stack", string(debug.Stack()))
	if rec.status == 0 {
		p.fail(rec, r, internal(nil))
	}
}

// recorder remembers the status for the log.
type recorder struct {
	http.ResponseWriter
	status int
}

// WriteHeader implements http.ResponseWriter.
func (w *recorder) WriteHeader(status int) {
	if w.status == 0 {
		w.status = status
	}
	w.ResponseWriter.WriteHeader(status)
}

// Write implements http.ResponseWriter.
func (w *recorder) Write(b []byte) (int, error) {
	if w.status == 0 {
		w.status = http.StatusOK
	}
	return w.ResponseWriter.Write(b)
}

// Unwrap serves http.ResponseController.
func (w *recorder) Unwrap() http.ResponseWriter { return w.ResponseWriter }

func (w *recorder) statusCode() int {
	if w.status == 0 {
		return http.StatusOK
	}
	return w.status
}

// routeLabel is the pattern that matched: never the path, which is the caller's
// to choose and may be anything.
func routeLabel(r *http.Request) string {
	if r.Pattern == "" || r.Pattern == "/" {
		return "unmatched"
	}
	return r.Pattern
}

// methodLabel keeps invented methods from becoming labels.
func methodLabel(method string) string {
	switch method {
	case http.MethodGet, http.MethodHead, http.MethodPost, http.MethodPut, http.MethodPatch,
		http.MethodDelete, http.MethodOptions, http.MethodConnect, http.MethodTrace:
		return method
	default:
		return "other"
	}
}
