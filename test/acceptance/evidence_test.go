// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

//go:build acceptance

package acceptance

import (
	"bytes"
	"context"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"filippo.io/torchwood"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"

	"github.com/vault-plugin-dek/vault-plugin-dek/internal/devstack"
)

// TestEvidence does to keys what can be done to them, and verifies the evidence of it as
// somebody without Vault does.
func TestEvidence(t *testing.T) {
	s := start(t, devstack.Options{})
	dek := dekCommand(t)
	tenant, gone := newTenant(t, s), newTenant(t, s)
	for _, id := range []string{tenant, gone} {
		succeeded(t, callRoot(t, s, http.MethodPost, "dek/tenants/"+id+"/secrets/a", map[string]any{"data": map[string]any{"k": "v"}}))
		for range 2 {
			rotation := succeeded(t, callRoot(t, s, http.MethodPost, "dek/tenants/"+id+"/dek/rotate", map[string]any{"reason": "an incident"}))
			waitRotation(t, s, id, rotation["rotation_id"].(string), "completed")
		}
	}
	key := random(32)
	imported := succeeded(t, callRoot(t, s, http.MethodPost, "dek/tenants/"+tenant+"/dek/import", map[string]any{
		"ciphertext": wrapped(t, wrappingKey(t, s), key),
	}))
	waitRotation(t, s, tenant, imported["rotation_id"].(string), "completed")
	require.Equal(t, http.StatusNoContent, callRoot(t, s, http.MethodDelete, "dek/tenants/"+gone+"?deletion_window=0", nil).Status)
	require.Eventually(t, func() bool {
		return callRoot(t, s, http.MethodGet, "dek/tenants/"+gone, nil).Status == http.StatusNotFound
	}, time.Minute, 50*time.Millisecond)
	require.Eventually(t, func() bool {
		return succeeded(t, callRoot(t, s, http.MethodGet, "dek/status", nil))["evidence_pending"] == float64(0)
	}, time.Minute, 50*time.Millisecond)

	data := succeeded(t, callRoot(t, s, http.MethodGet, "dek/evidence/key", nil))
	vkey := data["vkey"].(string)
	dir := filepath.Join(t.TempDir(), "log")
	code, _, stderr := dek(s, "evidence", "export", dir)
	require.Equal(t, 0, code, stderr)
	code, stdout, stderr := dek(nil, "evidence", "verify", dir, "--vkey", vkey)
	require.Equal(t, 0, code, "%s%s", stdout, stderr)
	code, _, _ = dek(nil, "evidence", "verify", dir)
	assert.Equal(t, 3, code, "nothing from outside vouches for it")
	code, _, _ = dek(nil, "evidence", "verify", dir, "--checkpoint", filepath.Join(dir, "none"))
	assert.Equal(t, 2, code)
	code, stdout, stderr = dek(s, "evidence", "verify", "--vkey", vkey)
	require.Equal(t, 0, code, "straight from Vault: %s%s", stdout, stderr)

	code, stdout, stderr = dek(nil, "evidence", "report", dir, "--vkey", vkey, "--format", "json", "--tenant", gone)
	require.Equal(t, 0, code, stderr)
	assert.Contains(t, stdout, gone)
	assert.NotContains(t, stdout, "an incident")

	// The entries of a shredded tenant can be read, by those who may.
	auditing := login(t, s, tenant, auditor)
	own := login(t, s, gone, securityAdmin)
	for _, token := range []string{auditing, own} {
		listed := succeeded(t, call(t, s, "LIST", "dek/tenants/"+gone+"/evidence", token, nil))["keys"].([]any)
		last := succeeded(t, call(t, s, http.MethodGet, "dek/tenants/"+gone+"/evidence/"+listed[len(listed)-1].(string), token, nil))
		entry := last["entry"].(map[string]any)
		assert.Contains(t, entry["predicateType"], "/tenant-shredded/")
	}
	assert.Equal(t, http.StatusForbidden, call(t, s, "LIST", "dek/tenants/"+tenant+"/evidence", own, nil).Status)

	// A witness cosigns.
	witness := filepath.Join(t.TempDir(), "witness.key")
	code, _, stderr = dek(s, "evidence", "witness", "--key", witness, "--name", "witness.example.com")
	assert.Equal(t, 1, code, "nobody has named it yet: %s", stderr)
	text, err := os.ReadFile(witness)
	require.NoError(t, err)
	cosigner := strings.Fields(string(text))[1]
	succeeded(t, callRoot(t, s, http.MethodPost, "dek/evidence/witnesses", map[string]any{"witnesses": []string{cosigner}}))
	code, _, stderr = dek(s, "evidence", "witness", "--key", witness)
	require.Equal(t, 0, code, stderr)
	code, stdout, stderr = dek(s, "evidence", "verify", "--vkey", vkey, "--witness", cosigner)
	require.Equal(t, 0, code, "%s%s", stdout, stderr)
	kept := succeeded(t, callRoot(t, s, http.MethodGet, "dek/evidence/checkpoint", nil))
	assert.Contains(t, kept["cosigned"], "witness.example.com")
	checked := succeeded(t, call(t, s, http.MethodPost, "dek/evidence/check", auditing, map[string]any{"checkpoint": kept["checkpoint"]}))
	assert.Equal(t, true, checked["consistent"])

	// A new key goes on with the same log.
	rotated := succeeded(t, callRoot(t, s, http.MethodPost, "dek/evidence/key/rotate", nil))
	assert.NotEqual(t, vkey, rotated["vkey"])
	code, stdout, stderr = dek(s, "evidence", "verify", "--vkey", vkey)
	require.Equal(t, 0, code, "%s%s", stdout, stderr)

	tamper(t, dir, dek, vkey)
	readByAnotherClient(t, s, auditing, data["origin"].(string), rotated["vkey"].(string))
}

// tamper flips a byte of each kind of file of an export.
func tamper(t *testing.T, dir string, dek func(*devstack.Stack, ...string) (int, string, string), vkey string) {
	t.Helper()
	var files []string
	require.NoError(t, filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if err == nil && !d.IsDir() && (strings.Contains(path, "tile/") || filepath.Base(path) == "checkpoint") {
			files = append(files, path)
		}
		return err
	}))
	require.NotEmpty(t, files)
	for _, path := range files {
		whole, err := os.ReadFile(path)
		require.NoError(t, err)
		broken := bytes.Clone(whole)
		broken[len(broken)/2] ^= 1
		require.NoError(t, os.WriteFile(path, broken, 0o600))
		code, stdout, _ := dek(nil, "evidence", "verify", dir, "--vkey", vkey)
		assert.Equal(t, 1, code, "%s was changed", path)
		assert.Contains(t, stdout, "BROKEN: ", path)
		if strings.Contains(path, "tile/entries/") {
			assert.Regexp(t, "BROKEN: .*[Ee]ntry [0-9]+", stdout, path)
		}
		require.NoError(t, os.WriteFile(path, whole, 0o600))
	}
}

// readByAnotherClient reads all entries with torchwood, a client of tlog-tiles that
// knows nothing of Vault but the token.
func readByAnotherClient(t *testing.T, s *devstack.Stack, token, origin, vkey string) {
	t.Helper()
	fetcher, err := torchwood.NewTileFetcher(s.VaultAddr()+"/v1/dek/evidence/tlog/", torchwood.WithHTTPClient(&http.Client{
		Transport: withToken{token}, Timeout: 10 * time.Second,
	}))
	require.NoError(t, err)
	text, err := fetcher.ReadEndpoint(t.Context(), "checkpoint")
	require.NoError(t, err)
	verifier, err := note.NewVerifier(vkey)
	require.NoError(t, err)
	signed, err := note.Open(text, note.VerifierList(verifier))
	require.NoError(t, err)
	checkpoint, err := torchwood.ParseCheckpoint(signed.Text)
	require.NoError(t, err)
	require.Equal(t, origin, checkpoint.Origin)
	client, err := torchwood.NewClient(fetcher, torchwood.WithCutEntry(
		func(tile []byte) (entry []byte, rh tlog.Hash, rest []byte, err error) {
			entry, rest, err = torchwood.ReadTileEntry(tile)
			return entry, tlog.RecordHash(entry), rest, err
		}))
	require.NoError(t, err)
	entries := 0
	for index, entry := range client.Entries(context.Background(), checkpoint.Tree, 0) {
		require.EqualValues(t, entries, index)
		require.Contains(t, string(entry), "https://in-toto.io/Statement/v1")
		entries++
	}
	require.NoError(t, client.Err())
	require.EqualValues(t, checkpoint.N, entries)
}

type withToken struct{ token string }

func (w withToken) RoundTrip(r *http.Request) (*http.Response, error) {
	r = r.Clone(r.Context())
	r.Header.Set("X-Vault-Token", w.token)
	return http.DefaultTransport.RoundTrip(r)
}
