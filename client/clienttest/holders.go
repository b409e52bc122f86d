// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package clienttest

import (
	"maps"
	"net/http"
	"strings"
	"time"
)

// holder is a place that keeps ciphertexts.
type holder struct {
	scan   string // that began last
	report map[string]any
}

// CreateHolder names a holder of a tenant.
func (e *Engine) CreateHolder(id, name string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	t := e.tenants[id]
	if t.holders == nil {
		t.holders = map[string]*holder{}
	}
	t.holders[name] = &holder{}
}

// Report is what a holder has reported last, nil if nothing: oldest_version, counts and
// scan_started_at, as they arrived.
func (e *Engine) Report(id, name string) map[string]any {
	e.mu.Lock()
	defer e.mu.Unlock()
	if h := e.tenants[id].holders[name]; h != nil {
		return maps.Clone(h.report)
	}
	return nil
}

// serveHolder answers reports and starts of scans, as the engine does for holders that are
// named.
func (t *tenant) serveHolder(w http.ResponseWriter, path string, body map[string]any) {
	name, isStart := strings.CutSuffix(path, "/report/start")
	name, isReport := strings.CutSuffix(name, "/report")
	h := t.holders[name]
	switch {
	case h == nil:
		refuse(w, http.StatusNotFound, "1 error occurred:\n\t* holder not found\n\n")
	case isStart:
		h.scan = time.Now().UTC().Format(time.RFC3339Nano)
		answer(w, map[string]any{"scan_started_at": h.scan})
	case isReport && (h.scan == "" || body["scan_started_at"] != h.scan):
		refuse(w, http.StatusBadRequest, "1 error occurred:\n\t* scan_started_at must be a time that report/start answered\n\n")
	case isReport:
		h.report = body
		answer(w, map[string]any{"name": name, "oldest_version": body["oldest_version"]})
	default:
		answer(w, map[string]any{"name": name})
	}
}
