// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package ui

import (
	"bytes"
	"embed"
	"fmt"
	"html/template"
	"net/http"
	"path"
	"strings"
	"time"

	"github.com/vault-plugin-dek/vault-plugin-dek/evidence"
)

//go:embed templates/*.html
var templates embed.FS

//go:embed static
var staticFiles embed.FS

// views are the templates, each with the layout around it.
type views struct {
	byName map[string]*template.Template
	now    func() time.Time
}

// page is what the layout shows. Data is the view's own.
type page struct {
	Title, View string
	// Name and the rest are of the session, empty without one.
	Name, Realm, CSRF string
	Nav               []link
	Said              *said
	Data              any
	Now               time.Time
}

type link struct {
	Path, Text string
	Here       bool
}

func newViews(now func() time.Time) (*views, error) {
	files, err := templates.ReadDir("templates")
	if err != nil {
		return nil, fmt.Errorf("templates: %w", err)
	}
	all := &views{byName: map[string]*template.Template{}, now: now}
	for _, f := range files {
		name := strings.TrimSuffix(f.Name(), ".html")
		if name == "layout" || name == "parts" {
			continue
		}
		all.byName[name], err = template.New("layout.html").Funcs(functions).
			ParseFS(templates, "templates/layout.html", "templates/parts.html", "templates/"+f.Name())
		if err != nil {
			return nil, fmt.Errorf("template %s: %w", name, err)
		}
	}
	return all, nil
}

// show writes a view. The visit may have no session.
func (all *views) show(v *visit, status int, view, title string, data any) {
	p := &page{Title: title, View: view, Data: data, Now: all.now()}
	if v != nil && v.session != nil {
		a := v.session.account
		p.Name, p.Realm, p.CSRF, p.Said = a.Name(), a.Realm(), v.session.csrf, v.session.said()
		p.Nav = v.nav()
	}
	var out bytes.Buffer
	if err := all.byName[view].Execute(&out, p); err != nil {
		// The templates are tested with every view; what is left is a caller that is gone.
		http.Error(v.w, text("error.fault"), http.StatusInternalServerError)
		return
	}
	h := v.w.Header()
	h.Set("Content-Type", "text/html; charset=utf-8")
	v.w.WriteHeader(status)
	_, _ = out.WriteTo(v.w)
}

// refuse shows an error.
func (all *views) refuse(w http.ResponseWriter, v *visit, refused *Refusal) {
	if v == nil {
		v = &visit{w: w}
	}
	if refused.RetryAfter != "" {
		w.Header().Set("Retry-After", refused.RetryAfter)
	}
	all.show(v, refused.Status, "error", titleOf(refused.Status), refused)
}

func titleOf(status int) string {
	switch status {
	case http.StatusForbidden:
		return text("error.forbidden")
	case http.StatusNotFound:
		return text("error.absent")
	case http.StatusConflict:
		return text("error.conflict")
	case http.StatusBadRequest:
		return text("error.invalid")
	case http.StatusServiceUnavailable:
		return text("error.unavailable")
	default:
		return text("error.title")
	}
}

// types are the content types of the page's files.
var types = map[string]string{".css": "text/css; charset=utf-8", ".js": "text/javascript; charset=utf-8", ".svg": "image/svg+xml"}

// static serves the page's own files, to anybody: they hold nothing.
func (s *site) static(w http.ResponseWriter, r *http.Request) {
	name := r.PathValue("file")
	contentType, known := types[path.Ext(name)]
	raw, err := staticFiles.ReadFile("static/" + name)
	if err != nil || !known {
		s.views.refuse(w, &visit{site: s, w: w, r: r}, &Refusal{Status: http.StatusNotFound, Reason: text("error.no-page")})
		return
	}
	w.Header().Set("Content-Type", contentType)
	w.WriteHeader(http.StatusOK)
	_, _ = w.Write(raw)
}

// functions are what templates call.
var functions = template.FuncMap{
	"t":      text,
	"utc":    func(t time.Time) string { return t.UTC().Format("2006-01-02 15:04 UTC") },
	"iso":    func(t time.Time) string { return t.UTC().Format(time.RFC3339) },
	"word":   word,
	"number": number,
	"short":  func(id string) string { return id[:min(len(id), 12)] },
	"values": values,
	"days":   func(seconds int64) int64 { return seconds / 86400 },
	"total":  total,
}

func total(c evidence.Counts) (n int64) {
	for _, of := range c {
		n += of
	}
	return n
}

// values makes a map of names and values in turn, for a template that calls another.
func values(pairs ...any) (map[string]any, error) {
	if len(pairs)%2 != 0 {
		return nil, fmt.Errorf("values: %d arguments are no pairs", len(pairs))
	}
	m := make(map[string]any, len(pairs)/2)
	for i := 0; i < len(pairs); i += 2 {
		name, ok := pairs[i].(string)
		if !ok {
			return nil, fmt.Errorf("values: argument %d is no name", i)
		}
		m[name] = pairs[i+1]
	}
	return m, nil
}
