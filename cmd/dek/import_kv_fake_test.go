// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package main

import (
	"bytes"
	"encoding/json"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/assert"
)

// kvSecret is a secret in KV.
type kvSecret struct {
	data    string // JSON; empty: the current version is deleted
	custom  map[string]string
	refused bool // by policy
}

// kvFake is a Vault with a KV mount at secret/, and the items of one tenant.
type kvFake struct {
	t       *testing.T
	url     string
	version string

	connections atomic.Int64 // that were made

	mu      sync.Mutex
	secrets map[string]kvSecret
	items   map[string]map[string]any
	reads   []string // of secrets, in order
	tokens  map[string]bool
	headers http.Header // of the last request
	bulk    int         // items that a request may have, 0 for any number
	tamper  bool
	hook    func(w http.ResponseWriter, r *http.Request) bool
}

const fakeTenant = "/v1/dek/tenants/" + tenantID + "/items"

func newKVFake(t *testing.T) *kvFake {
	t.Helper()
	f := &kvFake{t: t, version: "2", secrets: map[string]kvSecret{}, items: map[string]map[string]any{}, tokens: map[string]bool{}}
	server := httptest.NewUnstartedServer(f)
	server.Config.ConnState = func(_ net.Conn, state http.ConnState) {
		if state == http.StateNew {
			f.connections.Add(1)
		}
	}
	server.Start()
	t.Cleanup(server.Close)
	f.url = server.URL
	t.Setenv("VAULT_ADDR", server.URL)
	t.Setenv("VAULT_TOKEN", "token")
	return f
}

// run runs dek import kv2 into the tenant's secrets.
func (f *kvFake) run(source string, flags ...string) (code int, stdout, stderr string) {
	f.t.Helper()
	var out, errs bytes.Buffer
	args := append([]string{"import", "kv2", source, tenantID, "secrets"}, flags...)
	code = run(f.t.Context(), args, strings.NewReader(""), &out, &errs)
	for _, text := range []string{out.String(), errs.String()} {
		assert.NotContains(f.t, text, "hunter2", "a value is told")
	}
	return code, out.String(), errs.String()
}

func (f *kvFake) names() []string {
	return slices.Sorted(maps.Keys(f.items))
}

func (f *kvFake) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.tokens[r.Header.Get("X-Vault-Token")] = true
	f.headers = r.Header
	path := strings.TrimPrefix(r.URL.Path, "/v1/")
	isList := r.Method == "LIST" || r.URL.Query().Get("list") == "true"
	below, isSecret := strings.CutPrefix(path, map[string]string{"2": "secret/data/", "1": "secret/"}[f.version])
	folder, isFolder := strings.CutPrefix(path+"/", map[string]string{"2": "secret/metadata/", "1": "secret/"}[f.version])
	switch {
	case f.hook != nil && f.hook(w, r):
	case strings.HasPrefix(path, "sys/internal/ui/mounts/secret"):
		f.answer(w, map[string]any{"path": "secret/", "type": "kv", "options": map[string]string{"version": f.version}})
	case strings.HasPrefix(path, "sys/internal/ui/mounts/other"):
		f.answer(w, map[string]any{"path": "other/", "type": "transit", "options": nil})
	case path == "auth/token/lookup-self":
		f.answer(w, map[string]any{})
	case r.URL.Path == fakeTenant:
		f.write(w, r)
	case r.URL.Path == fakeTenant+"/read":
		f.readItems(w, r)
	case isList && isFolder:
		f.list(w, folder)
	case isSecret:
		f.readSecret(w, below)
	default:
		f.refuse(w, http.StatusNotFound)
	}
}

func (f *kvFake) answer(w http.ResponseWriter, data any) {
	assert.NoError(f.t, json.NewEncoder(w).Encode(map[string]any{"data": data}))
}

func (f *kvFake) refuse(w http.ResponseWriter, status int, errs ...string) {
	w.WriteHeader(status)
	assert.NoError(f.t, json.NewEncoder(w).Encode(map[string]any{"errors": append([]string{}, errs...)}))
}

func (f *kvFake) list(w http.ResponseWriter, folder string) {
	keys := map[string]bool{}
	for path := range f.secrets {
		if rest, is := strings.CutPrefix(path, folder); is {
			name, _, deeper := strings.Cut(rest, "/")
			if deeper {
				name += "/"
			}
			keys[name] = true
		}
	}
	if len(keys) == 0 {
		f.refuse(w, http.StatusNotFound)
		return
	}
	f.answer(w, map[string]any{"keys": slices.Collect(maps.Keys(keys))})
}

func (f *kvFake) readSecret(w http.ResponseWriter, path string) {
	f.reads = append(f.reads, path)
	s, is := f.secrets[path]
	switch {
	case !is:
		f.refuse(w, http.StatusNotFound)
	case s.refused:
		f.refuse(w, http.StatusForbidden, "1 error occurred:\n\t* permission denied\n\n")
	case f.version == "1":
		f.answer(w, json.RawMessage(s.data))
	case s.data == "":
		w.WriteHeader(http.StatusNotFound)
		f.answer(w, map[string]any{"data": nil, "metadata": map[string]any{"deletion_time": "2026-01-02T03:04:05Z", "destroyed": false}})
	default:
		f.answer(w, map[string]any{"data": json.RawMessage(s.data), "metadata": map[string]any{"deletion_time": "", "custom_metadata": s.custom}})
	}
}

type fakeItem struct {
	Kind, Name string
	Data       json.RawMessage
	Metadata   map[string]string
	CAS        *int
}

func (f *kvFake) asked(r *http.Request) []fakeItem {
	var body struct{ Items []fakeItem }
	assert.NoError(f.t, json.NewDecoder(r.Body).Decode(&body))
	return body.Items
}

func (f *kvFake) write(w http.ResponseWriter, r *http.Request) {
	items := f.asked(r)
	if f.bulk > 0 && len(items) > f.bulk {
		f.refuse(w, http.StatusRequestEntityTooLarge, "too large")
		return
	}
	results := make([]map[string]any, len(items))
	for i, it := range items {
		revision := 0
		if old := f.items[it.Name]; old != nil {
			revision, _ = old["revision"].(int)
		}
		switch {
		case strings.ContainsAny(it.Name, " %?"):
			results[i] = map[string]any{"error": "name must be made of other characters"}
		case it.CAS != nil && *it.CAS != revision:
			results[i] = map[string]any{"error": "cas does not match"}
		default:
			if f.tamper {
				it.Data = json.RawMessage(`{"a":"tampered"}`)
			}
			f.items[it.Name] = map[string]any{"data": it.Data, "metadata": it.Metadata, "revision": revision + 1}
			results[i] = map[string]any{"revision": revision + 1}
		}
	}
	f.answer(w, map[string]any{"results": results})
}

func (f *kvFake) readItems(w http.ResponseWriter, r *http.Request) {
	results := []map[string]any{}
	for _, it := range f.asked(r) {
		item := f.items[it.Name]
		if item == nil {
			item = map[string]any{"error": notThere}
		}
		results = append(results, item)
	}
	f.answer(w, map[string]any{"results": results})
}
