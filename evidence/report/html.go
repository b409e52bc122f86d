// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package report

import (
	_ "embed"
	"fmt"
	"html/template"
	"io"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/vault-plugin-dek/vault-plugin-dek/evidence"
)

//go:embed report.html
var page string

var pageTemplate = template.Must(template.New("report").Funcs(template.FuncMap{
	"time":   func(t time.Time) string { return t.UTC().Format("2006-01-02 15:04:05") },
	"day":    func(t time.Time) string { return t.UTC().Format("2006-01-02") },
	"span":   span,
	"counts": counts,
	"status": func(s string) string { return strings.ReplaceAll(s, "_", " ") },
}).Parse(page))

// WriteHTML writes the report as a page that needs nothing else: no script, no other
// file. It prints.
func (r *Report) WriteHTML(w io.Writer) error { return pageTemplate.Execute(w, r) }

// span writes seconds as people do.
func span(seconds int64) string {
	const day = 24 * 60 * 60
	switch {
	case seconds >= 2*day:
		return fmt.Sprintf("%d days", seconds/day)
	case seconds >= 2*60*60:
		return fmt.Sprintf("%d hours", seconds/3600)
	}
	return fmt.Sprintf("%d seconds", seconds)
}

func counts(c evidence.Counts) string {
	var parts []string
	for _, kind := range slices.Sorted(maps.Keys(c)) {
		parts = append(parts, fmt.Sprintf("%d %s", c[kind], strings.ReplaceAll(kind, "_", " ")))
	}
	return strings.Join(parts, ", ")
}

// Rotated counts the rotations that completed.
func (r *Report) Rotated() (n int) {
	for _, t := range r.Tenants {
		for _, rotation := range t.Rotations {
			if rotation.Status == "completed" {
				n++
			}
		}
	}
	return n
}

// DestroyedKeys counts the keys that were destroyed.
func (r *Report) DestroyedKeys() (n int) {
	for _, t := range r.Tenants {
		n += len(t.Destroyed)
	}
	return n
}
