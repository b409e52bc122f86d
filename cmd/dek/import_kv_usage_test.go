// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package main

import (
	"context"
	"encoding/pem"
	"io"
	"log"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// Another server is asked with its own token alone.
func TestImportKVFromAnotherVault(t *testing.T) {
	source := newKVFake(t)
	source.secrets = map[string]kvSecret{"app/a": {data: `{"a":"hunter2"}`}}
	target := newKVFake(t)
	t.Setenv("SOURCE_VAULT_ADDR", source.url)
	code, _, errs := target.run("secret/app")
	assert.Equal(t, exitUsage, code)
	assert.Contains(t, errs, "SOURCE_VAULT_ADDR needs SOURCE_VAULT_TOKEN")
	t.Setenv("SOURCE_VAULT_TOKEN", "theirs")
	code, _, errs = target.run("secret/app")
	assert.Equal(t, exitDone, code, errs)
	assert.Equal(t, map[string]bool{"theirs": true}, source.tokens)
	assert.Equal(t, map[string]bool{"token": true}, target.tokens)
	assert.Equal(t, []string{"a"}, target.names())
	t.Setenv("SOURCE_VAULT_CACERT", filepath.Join(t.TempDir(), "missing.pem"))
	code, _, _ = target.run("secret/app")
	assert.Equal(t, exitUsage, code)
}

// A setting of another server that is not named would be passed over.
func TestImportKVSourceWithoutAddress(t *testing.T) {
	target := newKVFake(t)
	for _, name := range sourceTLS {
		t.Run(name, func(t *testing.T) {
			t.Setenv("SOURCE_VAULT_"+name, "true")
			code, _, errs := target.run("secret/app")
			assert.Equal(t, exitUsage, code)
			assert.Contains(t, errs, "SOURCE_VAULT_"+name+" is of another server")
		})
	}
}

// tlsSource is the source behind a certificate of its own. It returns the authority's file.
func tlsSource(t *testing.T, source *kvFake) (authority string) {
	t.Helper()
	server := httptest.NewUnstartedServer(source)
	server.Config.ErrorLog = log.New(io.Discard, "", 0) // it tells of each client that does not trust it
	server.StartTLS()
	t.Cleanup(server.Close)
	authority = filepath.Join(t.TempDir(), "ca.pem")
	text := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw})
	require.NoError(t, os.WriteFile(authority, text, 0o600))
	t.Setenv("SOURCE_VAULT_ADDR", server.URL)
	t.Setenv("SOURCE_VAULT_TOKEN", "theirs")
	return authority
}

// What the target is believed, and who one is there, does not hold for another server. A
// certificate that is refused is not waited for.
func TestImportKVSourceIsNotTheTarget(t *testing.T) {
	source := newKVFake(t)
	source.secrets = map[string]kvSecret{"app/a": {data: `{"a":"hunter2"}`}}
	target := newKVFake(t)
	authority := tlsSource(t, source)
	t.Setenv("VAULT_SKIP_VERIFY", "true")
	t.Setenv("VAULT_TLS_SERVER_NAME", "target.invalid")
	t.Setenv("VAULT_NAMESPACE", "ours")
	t.Setenv("VAULT_HEADERS", `{"Authorization":"ours"}`)

	code, _, errs := target.run("secret/app", "--patience", "3s")
	assert.Equal(t, exitFailed, code)
	assert.Contains(t, errs, "certificate")
	assert.NotContains(t, errs, "waiting")
	assert.Empty(t, source.tokens)

	t.Setenv("SOURCE_VAULT_CACERT", authority)
	code, _, errs = target.run("secret/app")
	require.Equal(t, exitDone, code, errs)
	assert.Empty(t, source.headers.Values("Authorization"))
	assert.Empty(t, source.headers.Values("X-Vault-Namespace"))
	assert.NotEmpty(t, source.headers.Values("X-Vault-Request"))
	assert.Equal(t, "ours", target.headers.Get("Authorization"))

	t.Setenv("SOURCE_VAULT_NAMESPACE", "theirs")
	code, _, errs = target.run("secret/app")
	require.Equal(t, exitDone, code, errs)
	assert.Equal(t, "theirs", source.headers.Get("X-Vault-Namespace"))
	t.Setenv("SOURCE_VAULT_TLS_SERVER_NAME", "another.invalid")
	code, _, errs = target.run("secret/app", "--patience", "3s")
	assert.Equal(t, exitFailed, code)
	assert.Contains(t, errs, "another.invalid")
	t.Setenv("SOURCE_VAULT_SKIP_VERIFY", "true")
	code, _, errs = target.run("secret/app")
	assert.Equal(t, exitDone, code, errs)
}

// The source's token may lie in a file. What cannot be its settings is said at once.
func TestImportKVSourceSettings(t *testing.T) {
	source := newKVFake(t)
	source.secrets = map[string]kvSecret{"app/a": {data: `{"a":"hunter2"}`}}
	target := newKVFake(t)
	file := filepath.Join(t.TempDir(), "token")
	require.NoError(t, os.WriteFile(file, []byte("theirs\n"), 0o600))
	t.Setenv("SOURCE_VAULT_ADDR", source.url)
	t.Setenv("SOURCE_VAULT_TOKEN_FILE", file)
	code, _, errs := target.run("secret/app")
	assert.Equal(t, exitDone, code, errs)
	assert.Equal(t, map[string]bool{"theirs": true}, source.tokens)
	for _, faulty := range [][2]string{
		{"SOURCE_VAULT_TOKEN", "another"},
		{"SOURCE_VAULT_TOKEN_FILE", file + "-missing"},
		{"SOURCE_VAULT_TOKEN_FILE", os.DevNull},
		{"SOURCE_VAULT_ADDR", "vault.example.com"},
		{"SOURCE_VAULT_ADDR", "vault.example.com:8200"},
		{"SOURCE_VAULT_ADDR", "ftp://vault"},
		{"SOURCE_VAULT_SKIP_VERIFY", "maybe"},
		{"SOURCE_VAULT_CLIENT_CERT", file},
		{"VAULT_ADDR", "vault.example.com"},
	} {
		t.Run(faulty[0]+" "+faulty[1], func(t *testing.T) {
			t.Setenv(faulty[0], faulty[1])
			code, _, errs := target.run("secret/app", "--patience", "3s")
			assert.Equal(t, exitUsage, code, errs)
			assert.Contains(t, errs, strings.TrimPrefix(faulty[0], "SOURCE_"))
		})
	}
}

func TestImportKVUsage(t *testing.T) {
	newKVFake(t)
	for name, args := range map[string][]string{
		"no source":       {},
		"no kind":         {"secret", tenantID},
		"kind":            {"secret", tenantID, "api_keys"},
		"tenant":          {"secret", "nobody", "secrets"},
		"empty":           {"", tenantID, "secrets"},
		"dots":            {"secret/../sys", tenantID, "secrets"},
		"empty part":      {"secret//a", tenantID, "secrets"},
		"batch":           {"secret", tenantID, "secrets", "--batch", "10001"},
		"parallel":        {"secret", tenantID, "secrets", "--parallel", "0"},
		"rate":            {"secret", tenantID, "secrets", "--rate", "-1"},
		"something other": {"secret", tenantID, "secrets", "more"},
	} {
		t.Run(name, func(t *testing.T) {
			code := run(t.Context(), append([]string{"import", "kv2"}, args...), strings.NewReader(""), io.Discard, io.Discard)
			assert.Equal(t, exitUsage, code)
		})
	}
	var errs strings.Builder
	assert.Equal(t, exitFailed, run(t.Context(), []string{"import", "kv2", "other/a", tenantID, "secrets"}, nil, io.Discard, &errs))
	assert.Contains(t, errs.String(), errNoKV.Error())
	ctx, stop := context.WithCancel(t.Context())
	stop()
	errs.Reset()
	assert.Equal(t, exitFailed, run(ctx, []string{"import", "kv2", "secret/a", tenantID, "secrets"}, nil, io.Discard, &errs))
	assert.Contains(t, errs.String(), "interrupted")
}

// A walk goes on behind any path as if it had not been interrupted.
func TestImportKVWalk(t *testing.T) {
	f := newKVFake(t)
	for _, path := range []string{"a", "a-b", "a/b", "a/b/c", "a/b0", "a0", "b/c/d", "b/c/..", "b//x", "ä"} {
		f.secrets[path] = kvSecret{data: `{}`}
	}
	m, err := openKV(t.Context(), &app{stderr: io.Discard}, &importOptions{source: "secret"})
	require.NoError(t, err)
	var all []string
	for place, err := range m.walk(t.Context(), "") {
		require.NoError(t, err)
		all = append(all, place.path)
		assert.Equal(t, place.path == "b//" || place.path == "b/c/..", place.err != nil, place.path)
	}
	assert.Equal(t, []string{"a", "a-b", "a/b", "a/b/c", "a/b0", "a0", "b//", "b/c/..", "b/c/d", "ä"}, all)
	for i, after := range all {
		var rest []string
		for place, err := range m.walk(t.Context(), after) {
			require.NoError(t, err)
			rest = append(rest, place.path)
		}
		assert.Equal(t, len(all)-i-1, len(rest), "behind %s", after)
	}
}
