// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

// Package clienttest is a DEK engine in memory, for tests of programs that use
// package client: it encrypts, rotates, destroys and forgets, without a Vault.
// It keeps no items and no policies.
package clienttest

import (
	"crypto/rand"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"

	"github.com/hashicorp/vault/api"
)

// Engine is the engine, mounted at dek/. It is an [http.Handler], and safe for
// concurrent use.
type Engine struct {
	mu        sync.Mutex
	tenants   map[string]*tenant
	lease     *int
	older     bool
	requests  map[string]int
	intercept func(w http.ResponseWriter, r *http.Request) bool
}

type tenant struct {
	keys      map[int][]byte // by version; destroyed ones are missing
	current   int
	rotations map[string]map[string]any
	holders   map[string]*holder
	denied    bool
}

// New is an engine without tenants, whose data keys have a lease of an hour.
func New() *Engine {
	lease := 3600
	return &Engine{tenants: map[string]*tenant{}, lease: &lease, requests: map[string]int{}}
}

// Vault is a Vault client whose requests go to the engine, without a network.
func (e *Engine) Vault() (*api.Client, error) {
	config := api.DefaultConfig()
	if config.Error != nil {
		return nil, config.Error
	}
	config.Address = "http://engine.invalid"
	config.HttpClient = &http.Client{Transport: direct{e}}
	vault, err := api.NewClient(config)
	if err == nil {
		vault.SetToken("token")
		vault.ClearNamespace()
	}
	return vault, err
}

// direct hands a request to a handler in the goroutine that makes it.
type direct struct{ handler http.Handler }

func (d direct) RoundTrip(r *http.Request) (*http.Response, error) {
	if err := r.Context().Err(); err != nil {
		return nil, err
	}
	if r.Body == nil {
		r.Body = http.NoBody
	}
	w := httptest.NewRecorder()
	d.handler.ServeHTTP(w, r)
	resp := w.Result()
	resp.Request = r
	return resp, nil
}

// CreateTenant creates a tenant with version 1 of its key.
func (e *Engine) CreateTenant(id string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.tenants[id] = &tenant{keys: map[int][]byte{1: newKey()}, current: 1, rotations: map[string]map[string]any{}}
}

// DeleteTenant deletes a tenant with its keys.
func (e *Engine) DeleteTenant(id string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	delete(e.tenants, id)
}

// Rotate gives a tenant the next version, at once.
func (e *Engine) Rotate(id string) int {
	e.mu.Lock()
	defer e.mu.Unlock()
	t := e.tenants[id]
	t.current++
	t.keys[t.current] = newKey()
	return t.current
}

// CancelRotation makes the version before the current one the current one again.
func (e *Engine) CancelRotation(id string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.tenants[id].current--
}

// DestroyVersion destroys a version of a tenant's key.
func (e *Engine) DestroyVersion(id string, version int) {
	e.mu.Lock()
	defer e.mu.Unlock()
	delete(e.tenants[id].keys, version)
}

// Deny lets the tenant's key provider deny.
func (e *Engine) Deny(id string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.tenants[id].denied = true
}

// SetLease sets the lease of data keys, in seconds.
func (e *Engine) SetLease(seconds int) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.lease = &seconds
}

// BeOlder makes it an engine that has neither leases nor dek/current.
func (e *Engine) BeOlder() {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.lease, e.older = nil, true
}

// Intercept lets f see each request first; if f returns true it has answered it.
func (e *Engine) Intercept(f func(w http.ResponseWriter, r *http.Request) bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.intercept = f
}

// Requests is how many requests there were to a path below the tenant, such as
// "decrypt" or "datakey/plaintext".
func (e *Engine) Requests(path string) int {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.requests[path]
}

// ServeHTTP answers a request as Vault with the engine would.
func (e *Engine) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	rest := strings.TrimPrefix(r.URL.Path, "/v1/dek/")
	var path string
	if parts := strings.SplitN(rest, "/", 3); len(parts) == 3 {
		path = parts[2]
	}
	e.mu.Lock()
	e.requests[path]++
	intercept := e.intercept
	e.mu.Unlock()
	if intercept != nil && intercept(w, r) {
		return
	}
	var body map[string]any
	if raw, _ := io.ReadAll(r.Body); len(raw) > 0 {
		if json.Unmarshal(raw, &body) != nil {
			refuse(w, http.StatusBadRequest, "malformed JSON")
			return
		}
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	e.serve(w, r.Method, rest, body)
}

func (e *Engine) serve(w http.ResponseWriter, method, rest string, body map[string]any) {
	parts := strings.SplitN(rest, "/", 3)
	switch {
	case rest == "status":
		answer(w, map[string]any{
			"tenants": len(e.tenants), "index_complete": true, "oldest_key_age": 3600, "as_of": "2026-01-02T03:04:05Z",
		})
		return
	case len(parts) < 2 || parts[0] != "tenants":
		refuse(w, http.StatusNotFound, "1 error occurred:\n\t* unsupported path\n\n")
		return
	}
	t := e.tenants[parts[1]]
	switch {
	case t == nil:
		refuse(w, http.StatusNotFound, "1 error occurred:\n\t* tenant not found\n\n")
	case t.denied:
		refuse(w, http.StatusFailedDependency, "the key provider denies")
	case len(parts) == 2 && method == http.MethodDelete:
		delete(e.tenants, parts[1])
		w.WriteHeader(http.StatusNoContent)
	case len(parts) == 2:
		answer(w, map[string]any{"tenant_id": parts[1], "state": "active"})
	default:
		e.serveTenant(w, t, parts[1], parts[2], body)
	}
}

func (e *Engine) serveTenant(w http.ResponseWriter, t *tenant, id, path string, body map[string]any) {
	switch path {
	case "encrypt", "decrypt", "rewrap":
		e.serveBatch(w, t, path, body)
	case "datakey/plaintext", "datakey/wrapped":
		e.serveDataKey(w, t, path == "datakey/plaintext", body)
	case "dek/rotate":
		answer(w, t.rotate(id, body))
	case "dek/current":
		if !e.older {
			answer(w, map[string]any{"current_version": t.current, "min_decryption_version": 1})
			return
		}
		fallthrough
	default:
		if name, ok := strings.CutPrefix(path, "holders/"); ok {
			t.serveHolder(w, name, body)
			return
		}
		if r := t.rotations[strings.TrimPrefix(path, "dek/rotations/")]; r != nil {
			answer(w, t.advance(r))
			return
		}
		refuse(w, http.StatusNotFound, "1 error occurred:\n\t* unsupported path\n\n")
	}
}

// rotate starts a rotation that ends when it is read for the third time.
func (t *tenant) rotate(id string, body map[string]any) map[string]any {
	if key, _ := body["idempotency_key"].(string); key != "" {
		for _, r := range t.rotations {
			if r["idempotency_key"] == key {
				return r
			}
		}
	}
	t.current++
	t.keys[t.current] = newKey()
	r := map[string]any{
		"rotation_id": fmt.Sprintf("rot-00000000-0000-4000-8000-%012d", t.current), "tenant_id": id,
		"previous_version": t.current - 1, "new_version": t.current, "status": "in_progress",
		"started_at": "2026-01-02T03:04:05Z", "items_to_rotate": map[string]int{"secrets": 2}, "percent": 0.0,
		"reason": body["reason"], "trigger": "manual", "idempotency_key": body["idempotency_key"],
	}
	t.rotations[r["rotation_id"].(string)] = r //nolint:forcetypeassert // set above
	return r
}

func (t *tenant) advance(r map[string]any) map[string]any {
	percent := min(r["percent"].(float64)+50, 100) //nolint:forcetypeassert // set by rotate
	r["percent"] = percent
	r["items_rotated"] = map[string]int{"secrets": int(percent) / 50}
	if percent == 100 {
		r["status"], r["completed_at"] = "completed", "2026-01-02T03:04:06Z"
	}
	return r
}

func newKey() []byte {
	key := make([]byte, 32)
	_, _ = rand.Read(key) // never fails
	return key
}
