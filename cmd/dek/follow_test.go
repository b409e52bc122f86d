// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package main

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/vault-plugin-dek/vault-plugin-dek/client/clienttest"
)

// newEngine is an engine with a tenant, which the environment names.
func newEngine(t *testing.T) *clienttest.Engine {
	t.Helper()
	e := clienttest.New()
	e.CreateTenant(tenantID)
	server := httptest.NewServer(e)
	t.Cleanup(server.Close)
	t.Setenv("VAULT_ADDR", server.URL)
	t.Setenv("VAULT_TOKEN", "token")
	return e
}

// answers answers the requests to a path, one after the other, the last for ever. A
// status other than 200 has no body.
func answers(e *clienttest.Engine, path string, all ...any) (asked *atomic.Int64) {
	asked = new(atomic.Int64)
	e.Intercept(func(w http.ResponseWriter, r *http.Request) bool {
		if !strings.HasSuffix(r.URL.Path, path) {
			return false
		}
		answer := all[min(int(asked.Add(1)), len(all))-1]
		if status, is := answer.(int); is {
			w.WriteHeader(status)
			_, _ = io.WriteString(w, `{"errors":["it is not well"]}`) // the command tells
			return true
		}
		_ = json.NewEncoder(w).Encode(map[string]any{"data": answer})
		return true
	})
	return asked
}

// watcher ends a context once what was written has a text n times.
type watcher struct {
	all  bytes.Buffer
	text string
	n    int
	stop func()
}

func (w *watcher) Write(p []byte) (int, error) {
	n, err := w.all.Write(p)
	if strings.Count(w.all.String(), w.text) >= w.n {
		w.stop()
	}
	return n, err
}

func watch(t *testing.T, until string, n int, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	out, errs := &watcher{text: until, n: n, stop: stop}, new(bytes.Buffer)
	code = run(ctx, append([]string{"status", "--watch", "--interval", "1ms"}, args...), nil, out, errs)
	return code, out.all.String(), errs.String()
}

// status --watch looks again and again, also after Vault has not answered for a while,
// until it is interrupted, and then ends well.
func TestStatusWatch(t *testing.T) {
	e := newEngine(t)
	fleet := map[string]any{"tenants": 3, "index_complete": true, "as_of": "2026-01-02T03:04:05Z"}
	busy := map[string]any{"tenants": 4, "index_complete": true, "as_of": "2026-01-02T03:04:06Z"}
	answers(e, "/status", 503, fleet, 503, 500, 429, busy)
	code, out, errs := watch(t, "As of", 2)
	assert.Equal(t, exitDone, code)
	assert.Contains(t, out, "Tenants              3\n")
	assert.Contains(t, out, "05Z\n\nTenants              4\n", "a status after the other")
	assert.NotContains(t, out, "\x1b", "it is no terminal")
	assert.Equal(t, 4, strings.Count(errs, "it is not well"))

	answers(e, "/status", fleet, 503, busy)
	code, out, _ = watch(t, `"tenants"`, 2, "-json")
	assert.Equal(t, exitDone, code)
	for line := range strings.Lines(out) {
		assert.True(t, json.Valid([]byte(line)), line)
	}

	answers(e, "/status", fleet, 403)
	code, out, errs = watch(t, "As of", 2)
	assert.Equal(t, exitFailed, code, "a token that is no longer good will not become so")
	assert.Equal(t, 1, strings.Count(out, "As of"))
	assert.Contains(t, errs, "403")
}

// What status shows to people.
func TestStatusText(t *testing.T) {
	e := newEngine(t)
	answers(e, "/status", map[string]any{
		"tenants": 10, "index_read": 9, "rotations_active": 1, "rotations_failed": 1, "failed_tenants": []string{"f"}, "overdue": 1,
		"overdue_tenants": []string{"o"}, "blocked": 1, "blocked_tenants": map[string]string{"b": "its provider denies"}, "paused": 2,
		"paused_overdue": 1, "due_within_7d": 5, "oldest_key_age": 9e6, "oldest_key_tenant": "o", "kek_age": 4e7, "kek_overdue": true,
		"providers": map[string]string{"hsm": "denied"}, "evidence_pending": 4, "damaged_entries": map[string]int{"pages": 2}, "as_of": "2026-01-02T03:04:05Z",
	})
	var out strings.Builder
	require.Equal(t, exitDone, run(t.Context(), []string{"status"}, nil, &out, io.Discard))
	assert.Equal(t, `Tenants              10
Rotations active     1
Rotations failed     1
Overdue              1
Blocked              1
Paused               2, 1 of them overdue
Due within 7 days    5
Oldest key           104 days, tenant o
Key-encryption key   462 days, overdue
Key provider         hsm denied
Evidence pending     4 events are not in the log yet
Damaged entries      pages: 2
Counted so far       9 records read since the start
As of                2026-01-02T03:04:05Z
Failed tenant        f
Overdue tenant       o
Blocked tenant       b: its provider denies
`, out.String())
}

const rotationID = "rot-00000000-0000-4000-8000-000000000002"

func rotation(status, waitingFor string, done int) map[string]any {
	return map[string]any{
		"rotation_id": rotationID, "status": status, "previous_version": 1, "new_version": 2, "waiting_for": waitingFor,
		"items_to_rotate": map[string]int{"secrets": 2}, "items_rotated": map[string]int{"secrets": done}, "started_at": "2026-01-02T03:04:05Z",
	}
}

// rotate --wait follows the rotation to its end, and ends as the rotation does.
func TestRotateWait(t *testing.T) {
	for name, test := range map[string]struct {
		answers    []any
		code       int
		out, notes []string
	}{
		"completed":   {[]any{rotation("in_progress", "", 1), rotation("completed", "", 2)}, exitDone, []string{"completed, version 1 to 2, 2 of 2 items"}, nil},
		"failed":      {[]any{rotation("failed", "", 1)}, exitFailed, []string{": failed"}, []string{"the rotation ended failed"}},
		"rolled back": {[]any{rotation("rolling_back", "", 1), rotation("rolled_back", "", 0)}, exitFailed, []string{": rolled_back"}, []string{"is rolling back", "the rotation ended rolled_back"}},
		"held": {
			[]any{rotation("paused", "", 1), rotation("in_progress", "", 1), rotation("in_progress", "hsm", 1), rotation("completed", "", 2)},
			exitDone, nil,
			[]string{rotationID + " is paused\n", rotationID + " goes on\n", "waits for key provider hsm\n"},
		},
		"gone":       {[]any{404}, exitFailed, nil, []string{"rotation " + rotationID + " is no longer followed: read rotation: 404"}},
		"a failover": {[]any{503, 503, 503, 503, 503, rotation("completed", "", 2)}, exitDone, []string{": completed"}, []string{"; waiting"}},
	} {
		t.Run(name, func(t *testing.T) {
			answers(newEngine(t), "/dek/rotations/"+rotationID, test.answers...)
			var out, errs strings.Builder
			code := run(t.Context(), []string{"rotate", "--wait", tenantID}, nil, &out, &errs)
			assert.Equal(t, test.code, code, errs.String())
			for _, want := range test.out {
				assert.Contains(t, out.String(), want)
			}
			for _, want := range test.notes {
				assert.Contains(t, errs.String(), want)
			}
			if test.notes == nil {
				assert.Empty(t, errs.String())
			}
		})
	}
}

// An interrupt ends the command and not the rotation. While another is unfinished none is
// started, and the message names that one.
func TestRotateIsInterrupted(t *testing.T) {
	e := newEngine(t)
	answers(e, "/dek/rotations/"+rotationID, rotation("in_progress", "", 1))
	ctx, stop := context.WithCancel(t.Context())
	out, errs := &watcher{text: rotationID, n: 1, stop: stop}, new(strings.Builder)
	assert.Equal(t, exitFailed, run(ctx, []string{"rotate", "--wait", "-json", tenantID}, nil, out, errs))
	assert.Contains(t, errs.String(), "interrupted: rotation "+rotationID+" goes on")

	e.Intercept(func(w http.ResponseWriter, r *http.Request) bool {
		w.WriteHeader(http.StatusConflict)
		_, _ = io.WriteString(w, `{"errors":["rotation `+rotationID+` is running"],"data":{"rotation_id":"`+rotationID+`"}}`)
		return true
	})
	errs.Reset()
	assert.Equal(t, exitFailed, run(t.Context(), []string{"rotate", "--wait", tenantID}, nil, io.Discard, errs))
	assert.Contains(t, errs.String(), rotationID)

	answers(e, "/dek/rotate", 502)
	errs.Reset()
	assert.Equal(t, exitFailed, run(t.Context(), []string{"rotate", tenantID}, nil, io.Discard, errs))
	assert.Contains(t, errs.String(), "it is not known whether a rotation has been started")
}

// A warning of the engine goes beside the answer.
func TestRotateTellsWarnings(t *testing.T) {
	newEngine(t).Intercept(func(w http.ResponseWriter, r *http.Request) bool {
		if !strings.HasSuffix(r.URL.Path, "/dek/rotate") {
			return false
		}
		_ = json.NewEncoder(w).Encode(map[string]any{"data": rotation("in_progress", "", 0), "warnings": []string{"evidence pending"}})
		return true
	})
	var out, errs strings.Builder
	assert.Equal(t, exitDone, run(t.Context(), []string{"rotate", tenantID}, nil, &out, &errs))
	assert.Equal(t, "dek: warning: evidence pending\n", errs.String())
	assert.Contains(t, out.String(), rotationID+": in_progress")
}
