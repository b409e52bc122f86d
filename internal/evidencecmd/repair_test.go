// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package evidencecmd_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/vault/api"
	"github.com/stretchr/testify/require"

	"github.com/vault-plugin-dek/vault-plugin-dek/evidence"
	"github.com/vault-plugin-dek/vault-plugin-dek/evidence/evidencetest"
	"github.com/vault-plugin-dek/vault-plugin-dek/internal/evidencecmd"
)

// restored is a mount after a snapshot was restored: its log, and tenants by ID.
type restored struct {
	*server
	consistent bool
	kekID      string
	tenants    map[string]*restoredTenant
	refuse     map[string]int // requests that are refused, by path
	asked      []string       // changes, in order
}

type restoredTenant struct {
	versions []map[string]any
	keyType  string
	unended  int // looks at a rotation until it has ended

	kek    string // the key-encryption key that wraps the keys
	older  []any  // others of its own
	moves  int    // looks at a move of the keys until it has ended
	failed bool   // the move that goes on fails, and leaves the older ones
}

// tenant has versions from first to last, the last with all pages.
func (m *restored) tenant(n, first, last int) *restoredTenant {
	t := &restoredTenant{keyType: "xaes256-gcm"}
	for v := first; v <= last; v++ {
		t.add(v, evidencetest.KeyID(n, v))
	}
	m.tenants[evidencetest.ID(n)] = t
	return t
}

func (t *restoredTenant) add(number int, keyID string) {
	for _, v := range t.versions {
		v["state"], v["pages"] = "deactivated", 0
	}
	t.versions = append(t.versions, map[string]any{
		"version": number, "key_id": keyID, "key_type": t.keyType, "state": "active", "pages": 3,
		"page_key_destroyed_at": nil, "external_key_destroyed_at": nil, "external_use": false,
	})
}

func (m *restored) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	path := strings.TrimPrefix(r.URL.Path, "/v1/dek/")
	var body map[string]any
	if r.Method == http.MethodPut || r.Method == http.MethodPost {
		_ = json.NewDecoder(r.Body).Decode(&body)
	}
	if r.Method != http.MethodGet && path != "evidence/check" {
		m.asked = append(m.asked, path)
	}
	if code := m.refuse[path]; code != 0 {
		http.Error(w, `{"errors":["in use"]}`, code)
		return
	}
	data := map[string]any{}
	switch {
	case path == "evidence/check" && !m.consistent:
		http.Error(w, `{"errors":["storage went back"]}`, http.StatusConflict)
		return
	case path == "evidence/check", path == "rotations":
	case path == "kek/rotate":
		m.kekID = "kek-new"
	case path == "kek":
		data["kek_id"] = m.kekID
	case strings.HasPrefix(path, "evidence/"):
		m.server.ServeHTTP(w, r)
		return
	default:
		if !m.serveTenant(data, r.Method, strings.Split(path, "/")[1:], body) {
			http.Error(w, `{"errors":[]}`, http.StatusNotFound)
			return
		}
	}
	_ = json.NewEncoder(w).Encode(map[string]any{"data": data})
}

func (m *restored) serveTenant(data map[string]any, method string, parts []string, body map[string]any) bool {
	t := m.tenants[parts[0]]
	if t == nil {
		return false
	}
	switch path := strings.Join(parts[1:], "/"); {
	case method == http.MethodDelete:
		delete(m.tenants, parts[0])
	case path == "dek":
		data["versions"], data["current_version"] = t.versions, t.versions[len(t.versions)-1]["version"]
	case path == "dek/rotate":
		t.add(len(t.versions)+1, fmt.Sprintf("dek-new-%v", body["idempotency_key"]))
		t.unended, data["rotation_id"] = 2, "rot-1"
	case path == "kek":
		if t.moves--; t.moves == 0 && t.failed {
			t.failed = false
		} else if t.moves == 0 {
			t.older = nil
		}
		data["kek_id"], data["older_kek_ids"] = t.kek, t.older
		data["status"] = map[bool]string{true: "completed", false: "in_progress"}[t.moves <= 0]
	case path == "kek/rotate":
		t.older, t.kek = append(t.older, t.kek), fmt.Sprintf("kek-new-%v", body["idempotency_key"])
		t.moves = 2
	case path == "dek/rotations/rot-1":
		t.unended--
		data["status"] = map[bool]string{true: "completed", false: "in_progress"}[t.unended <= 0]
	default:
		for _, v := range t.versions {
			if path == fmt.Sprintf("dek/versions/%v/destroy", v["version"]) && body["force"] == nil {
				v["state"] = "destroyed"
				return true
			}
		}
		return false
	}
	return true
}

// repairs exports a year's log, restores an earlier one beside f's tenants, and returns
// what runs a repair by the export.
func repairs(t *testing.T, f func(m *restored)) (m *restored, run func(input string, args ...string) (string, error)) {
	t.Helper()
	log := evidencetest.GoodStory(t, 4)
	s := evidencetest.Story{T: t, Log: log}
	s.Mount(evidencetest.Begin.Add(341*evidencetest.Day), &evidence.KeyDestroyed{
		KeyID: "kek-old", Which: evidence.WhichKEK, Why: evidence.WhyRotation,
	})
	for n := range 3 {
		s.Tenant(n, evidencetest.Begin.Add(341*evidencetest.Day), &evidence.KeyDestroyed{
			KeyID: "kek-own-old", Which: evidence.WhichKEK, Why: evidence.WhyRotation,
		})
	}
	dir := t.TempDir()
	_, err := newDek(t, log).run("export", dir)
	require.NoError(t, err)
	earlier := evidencetest.NewLog(1)
	for _, leaf := range log.Leaves[:20] {
		earlier.AddLeaf(t, leaf)
	}
	m = &restored{
		server: &server{t: t, log: earlier}, tenants: map[string]*restoredTenant{}, refuse: map[string]int{}, kekID: "kek-now",
	}
	f(m)
	h := httptest.NewServer(m)
	t.Cleanup(h.Close)
	return m, func(input string, args ...string) (string, error) {
		var out bytes.Buffer
		cmd := evidencecmd.Command(evidencecmd.Env{
			Client: func() (*api.Client, error) {
				config := api.DefaultConfig()
				config.Address, config.MaxRetries = h.URL, 0
				return api.NewClient(config)
			},
			Mount: func() string { return "dek" }, JSON: func() bool { return false },
			Now: func() time.Time { return evidencetest.GoodUntil }, Pause: time.Millisecond,
		})
		cmd.SetArgs(append([]string{"verify", dir, "--vkey", log.VKey(), "--repair"}, args...))
		cmd.SetIn(strings.NewReader(input))
		cmd.SetOut(&out)
		cmd.SetErr(&out)
		cmd.SilenceUsage, cmd.SilenceErrors = true, true
		err := cmd.ExecuteContext(t.Context())
		return out.String(), err
	}
}

// What came back is rotated off and destroyed, not by force, in this order; a shredded
// tenant is deleted; tenants whose messages are counted are made due.
func TestRepairTakesAwayWhatCameBack(t *testing.T) {
	at := func(n int, path string) string { return "tenants/" + evidencetest.ID(n) + path }
	m, run := repairs(t, func(m *restored) {
		m.tenant(0, 1, 2)                        // version 2 was destroyed, and is active
		m.tenant(1, 4, 5)                        // version 4 was destroyed, and is retired
		m.tenant(2, 5, 5).keyType = "aes256-gcm" // nothing came back
		m.tenants[evidencetest.ID(2)].versions[0]["key_type"] = "aes256-gcm"
		m.tenant(3, 4, 5) // was shredded
		m.kekID = "kek-old"
	})
	out, err := run("no\n")
	require.ErrorIs(t, err, evidencecmd.ErrDeclined)
	require.Empty(t, m.asked, "the plan alone changes nothing")
	require.Contains(t, out, "of versions [1 2]. Plan: rotate it, then destroy them")
	require.Contains(t, out, "Tenant "+evidencetest.ID(3)+" was shredded and came back")

	m.refuse[at(0, "/dek/versions/1/destroy")] = http.StatusConflict
	out, err = run("yes\n")
	require.ErrorIs(t, err, evidencecmd.ErrRefused)
	require.Contains(t, out, "Refused: the destruction of version 1 of tenant "+evidencetest.ID(0)+": in use")
	require.Equal(t, []string{
		at(0, "/dek/rotate"), at(0, "/dek/versions/1/destroy"), at(0, "/dek/versions/2/destroy"),
		at(1, "/dek/versions/4/destroy"), at(3, ""), "kek/rotate", "rotations",
	}, m.asked)

	// Again: what is left, and nothing twice.
	m.asked, m.refuse = nil, map[string]int{}
	m.tenants[evidencetest.ID(2)].add(6, "dek-new")
	_, err = run("", "--yes")
	require.NoError(t, err)
	require.Equal(t, []string{at(0, "/dek/versions/1/destroy")}, m.asked)
	m.asked = nil
	out, err = run("", "--yes")
	require.NoError(t, err)
	require.Empty(t, m.asked)
	require.Contains(t, out, "No key and no tenant came back")
}

// Key-encryption keys of a tenant's own that came back are left for a new one, where the
// tenant's keys are, also after a move that had failed; those that were never destroyed
// stay. What the engine refuses is told, and the next run goes on with it.
func TestRepairTakesAwayOwnKEKs(t *testing.T) {
	rotate := func(n int) string { return "tenants/" + evidencetest.ID(n) + "/kek/rotate" }
	m, run := repairs(t, func(m *restored) {
		for n, kek := range []string{"kek-own-old", "kek-now", "kek-own-new"} {
			m.tenant(n, 5, 5).kek = kek
		}
		m.tenants[evidencetest.ID(0)].failed = true
		m.tenants[evidencetest.ID(1)].older = []any{"kek-own-old", "kek-left-over"}
	})
	out, err := run("no\n")
	require.ErrorIs(t, err, evidencecmd.ErrDeclined)
	require.Empty(t, m.asked)
	require.Contains(t, out, "Tenant "+evidencetest.ID(0)+": key-encryption keys of its own came back: kek-own-old. Plan: rotate it off them")

	m.refuse[rotate(1)] = http.StatusFailedDependency
	out, err = run("yes\n")
	require.ErrorIs(t, err, evidencecmd.ErrRefused)
	require.Contains(t, out, "Refused: the rotation of the key-encryption key of tenant "+evidencetest.ID(1))
	require.Contains(t, out, "Tenant "+evidencetest.ID(0)+": the key-encryption keys that came back are destroyed.")
	require.Equal(t, []string{rotate(0), rotate(0), rotate(1)}, m.asked, "the first move failed")

	m.asked, m.refuse = nil, map[string]int{}
	_, err = run("", "--yes")
	require.NoError(t, err)
	require.Equal(t, []string{rotate(1)}, m.asked)
	m.asked = nil
	out, err = run("", "--yes")
	require.NoError(t, err)
	require.Empty(t, m.asked)
	require.Contains(t, out, "No key and no tenant came back")
}

// A repair goes by a log that verifies, that is of this mount, and that has more than the
// mount's. Otherwise it changes nothing.
func TestRepairRefusesAnotherLog(t *testing.T) {
	prepare := func(m *restored) { m.tenant(0, 1, 2) }
	for name, test := range map[string]struct {
		prepare func(m *restored)
		args    []string
		want    error
	}{
		"storage did not go back":   {func(m *restored) { prepare(m); m.consistent = true }, []string{"--yes"}, nil},
		"another mount's":           {func(m *restored) { prepare(m); m.log = m.log.SignedBy("stranger") }, []string{"--yes"}, evidencecmd.ErrBroken},
		"a tenant of the same name": {func(m *restored) { m.tenant(0, 7, 8) }, []string{"--yes"}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			m, run := repairs(t, test.prepare)
			_, err := run("", test.args...)
			require.ErrorIs(t, err, test.want)
			require.Empty(t, m.asked)
		})
	}
	log := evidencetest.GoodStory(t, 2)
	d, dir := newDek(t, log), t.TempDir()
	_, err := d.run("export", dir)
	require.NoError(t, err)
	_, err = d.run("verify", dir, "--repair", "--yes")
	require.ErrorIs(t, err, evidencecmd.ErrUntrusted)
	for _, args := range [][]string{{"verify", "--repair"}, {"verify", dir, "--yes"}} {
		_, err = d.run(args...)
		require.ErrorIs(t, err, evidencecmd.ErrUsage)
	}
}
