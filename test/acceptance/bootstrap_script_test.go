// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

//go:build acceptance

package acceptance

import (
	"encoding/pem"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/vault-plugin-dek/vault-plugin-dek/internal/devstack"
)

// runScript runs bootstrap.sh as an operator does, without FORCE, and returns what
// it printed and its exit status.
func runScript(t *testing.T, s *devstack.Stack, env ...string) (string, int) {
	t.Helper()
	root, err := devstack.RepoRoot()
	require.NoError(t, err)
	cmd := exec.Command(filepath.Join(root, "bootstrap", "bootstrap.sh"))
	cmd.Env = append([]string{
		"PATH=" + os.Getenv("PATH"), "HOME=" + t.TempDir(),
		"VAULT_ADDR=" + s.VaultAddr(), "VAULT_TOKEN=" + s.RootToken(), "VAULT_BIN=" + s.VaultBin(),
		"PLUGIN_FILE=" + s.PluginFile(),
	}, env...)
	out, err := cmd.CombinedOutput()
	var exit *exec.ExitError
	if !errors.As(err, &exit) {
		require.NoError(t, err)
	}
	return string(out), cmd.ProcessState.ExitCode()
}

// said are the lines of the script's output that tell of a change.
func said(output string) []string {
	var lines []string
	for line := range strings.Lines(output) {
		line = strings.TrimSpace(line)
		if !strings.Contains(line, "bootstrap: note:") && !strings.Contains(line, " is ready; ") {
			lines = append(lines, line)
		}
	}
	return lines
}

func write(t *testing.T, s *devstack.Stack, path string, body map[string]any) {
	t.Helper()
	a := callRoot(t, s, http.MethodPost, path, body)
	require.Less(t, a.Status, 300, "%s: %s", path, a.errors())
}

// TestBootstrapRefusesWhatItDidNotMake gives something that the script would write
// to somebody else.
func TestBootstrapRefusesWhatItDidNotMake(t *testing.T) {
	s := start(t, devstack.Options{NoProxy: true, NamePrefix: "dek-"})
	for _, c := range []struct {
		name, path string
		body       map[string]any
		env        []string
		want       string
	}{
		{
			name: "policy", path: "sys/policy/dek-auditor",
			body: map[string]any{"policy": `path "secret/*" { capabilities = ["read"] }`}, want: "policy dek-auditor",
		},
		{
			name: "policy of another mount", path: "sys/policy/dek-auditor",
			body: map[string]any{"policy": "# Made by bootstrap.sh of vault-plugin-dek for other/ and auth/jwt/, which replaces it."},
			want: "policy dek-auditor",
		},
		{
			name: "group", path: "identity/group/name/dek-auditor",
			body: map[string]any{"metadata": map[string]any{"team": "audit"}}, want: "group dek-auditor",
		},
		{
			name: "login role", path: "auth/jwt/role/dek",
			body: map[string]any{"role_type": "jwt", "claim_mappings": map[string]any{"org": "tenant_id"}}, want: "auth/jwt/role/dek",
		},
		{
			name: "login role of one duty", path: "auth/jwt/role/dek-application",
			body: map[string]any{"role_type": "jwt", "bound_claims_type": "glob", "token_policies": "root"}, want: "auth/jwt/role/dek-application",
		},
		{
			name: "login role of one duty, for everybody", path: "auth/jwt/role/dek-application",
			body: map[string]any{"role_type": "jwt", "bound_claims_type": "glob", "bound_claims": map[string]any{"tenant_id": "*"}},
			want: "auth/jwt/role/dek-application",
		},
		{
			name: "configuration", path: "sys/auth/jwt/tune", body: map[string]any{"description": "people"},
			env: []string{"JWT_ISSUER=https://other.invalid"}, want: "auth/jwt/config",
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			write(t, s, c.path, c.body)
			before := settings(t, s)
			out, code := runScript(t, s, c.env...)
			assert.Equal(t, 1, code, out)
			assert.Contains(t, out, c.want+" was not made by this script")
			assert.Equal(t, before, settings(t, s), "nothing has changed")

			out, code = runScript(t, s, append(c.env, "FORCE=1", "DEK_ROLES="+strings.Join(allRoles, " "))...)
			require.Equal(t, 0, code, out)
			assert.NotEmpty(t, said(out))
		})
	}
	out, code := runScript(t, s)
	require.Equal(t, 0, code, out)
	assert.Empty(t, said(out), "all of it is the script's own now")
}

// TestBootstrapMovesAnEarlierSetUp has a group of another name that logins with the
// role are in, as earlier versions of the script made it.
func TestBootstrapMovesAnEarlierSetUp(t *testing.T) {
	s := start(t, devstack.Options{NoProxy: true, NamePrefix: "dek-"})
	tenant := newTenant(t, s)
	before := login(t, s, tenant, auditor)
	group := callRoot(t, s, http.MethodGet, "identity/group/name/dek-auditor", nil).data()
	write(t, s, "sys/policy/auditor", map[string]any{"policy": `path "dek/*" { capabilities = ["read"] }`})
	write(t, s, "identity/group/id/"+group["id"].(string), map[string]any{"name": "auditor", "policies": "auditor", "metadata": map[string]any{}})
	item := tenantPath(tenant, "secrets/a")
	succeeded(t, callRoot(t, s, http.MethodPut, item, map[string]any{"data": map[string]any{"v": "1"}}))
	require.Equal(t, http.StatusOK, call(t, s, http.MethodGet, item, before, nil).Status, "what the old policy gives")

	out, code := runScript(t, s)
	assert.Equal(t, 1, code, out)
	assert.Contains(t, out, "group auditor was not made by this script")
	out, code = runScript(t, s, "FORCE=1")
	require.Equal(t, 0, code, out)
	assert.Contains(t, out, "renamed group auditor to dek-auditor")
	for _, token := range []string{before, login(t, s, tenant, auditor)} {
		assert.Equal(t, http.StatusForbidden, call(t, s, http.MethodGet, item, token, nil).Status)
		assert.Equal(t, http.StatusOK, call(t, s, http.MethodGet, "dek/config", token, nil).Status)
	}
}

// TestBootstrapChangesWhatIsGiven runs the script with settings, and without them.
func TestBootstrapChangesWhatIsGiven(t *testing.T) {
	s := start(t, devstack.Options{NoProxy: true, NamePrefix: "dek-"})
	read := func(path, field string) any { return callRoot(t, s, http.MethodGet, path, nil).data()[field] }
	out, code := runScript(t, s)
	require.Equal(t, 0, code, out)
	assert.Empty(t, said(out))

	out, code = runScript(t, s, "JWT_AUDIENCE=one,two", "JWT_TOKEN_TTL=30m", "JWT_USER_CLAIM=email")
	require.Equal(t, 0, code, out)
	assert.Contains(t, out, "changed login role auth/jwt/role/dek: bound_audiences [one two];token_ttl 30m;user_claim email")
	out, code = runScript(t, s)
	require.Equal(t, 0, code, out)
	assert.Empty(t, said(out))
	assert.Equal(t, "glob", read("auth/jwt/role/dek-application", "bound_claims_type"))
	for _, role := range []string{"auth/jwt/role/dek", "auth/jwt/role/dek-application"} {
		assert.Equal(t, []any{"one", "two"}, read(role, "bound_audiences"), role)
		assert.Equal(t, 1800.0, read(role, "token_ttl"), role)
		assert.Equal(t, "email", read(role, "user_claim"), role)
	}

	// A roll-over of keys: the issuer, the default role and the rest stay.
	before := callRoot(t, s, http.MethodGet, "auth/jwt/config", nil).data()
	write(t, s, "auth/jwt/config", map[string]any{
		"jwt_validation_pubkeys": before["jwt_validation_pubkeys"], "bound_issuer": before["bound_issuer"],
		"default_role": "other", "jwt_supported_algs": []string{"ES256", "RS256"},
	})
	before = callRoot(t, s, http.MethodGet, "auth/jwt/config", nil).data()
	other := start(t, devstack.Options{NoProxy: true, NamePrefix: "dek-"})
	out, code = runScript(t, s, "JWT_PUBKEY_FILE="+filepath.Join(other.DataDir(), "jwt-public.pem"))
	require.Equal(t, 0, code, out)
	assert.Equal(t, []string{"bootstrap: configured auth/jwt/: jwt_validation_pubkeys"}, said(out))
	after := callRoot(t, s, http.MethodGet, "auth/jwt/config", nil).data()
	assert.NotEqual(t, before["jwt_validation_pubkeys"], after["jwt_validation_pubkeys"])
	after["jwt_validation_pubkeys"] = before["jwt_validation_pubkeys"]
	assert.Equal(t, before, after)

	out, code = runScript(t, s, "JWT_ISSUER=https://other.invalid")
	require.Equal(t, 0, code, out)
	assert.Equal(t, []string{"bootstrap: configured auth/jwt/: bound_issuer"}, said(out))
	assert.Equal(t, "https://other.invalid", read("auth/jwt/config", "bound_issuer"))
}

// TestBootstrapFollowsAnIssuer moves from public keys to a JWKS address, and from that
// to another, whose certificate it has already.
func TestBootstrapFollowsAnIssuer(t *testing.T) {
	s := start(t, devstack.Options{NoProxy: true, NamePrefix: "dek-"})
	issuer := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, `{"keys": []}`)
	}))
	t.Cleanup(issuer.Close)
	ca := filepath.Join(t.TempDir(), "ca.pem")
	require.NoError(t, os.WriteFile(ca, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: issuer.Certificate().Raw}), 0o600))
	before := callRoot(t, s, http.MethodGet, "auth/jwt/config", nil).data()

	for _, step := range []struct {
		env  []string
		said string
	}{
		{[]string{"JWT_JWKS_URL=" + issuer.URL + "/a", "JWT_CA_FILE=" + ca}, "jwks_ca_pem jwks_url"},
		{[]string{"JWT_JWKS_URL=" + issuer.URL + "/b"}, "jwks_url"},
	} {
		out, code := runScript(t, s, step.env...)
		require.Equal(t, 0, code, out)
		assert.Equal(t, []string{"bootstrap: configured auth/jwt/: " + step.said}, said(out))
		out, code = runScript(t, s, step.env...)
		require.Equal(t, 0, code, out)
		assert.Empty(t, said(out))
	}
	after := callRoot(t, s, http.MethodGet, "auth/jwt/config", nil).data()
	assert.Equal(t, issuer.URL+"/b", after["jwks_url"])
	assert.Contains(t, after["jwks_ca_pem"], "BEGIN CERTIFICATE")
	assert.Empty(t, after["jwt_validation_pubkeys"])
	assert.Equal(t, before["bound_issuer"], after["bound_issuer"])
}

// TestBootstrapIgnoresSettingsOfTheClient has each setting that changes what the
// vault command prints.
func TestBootstrapIgnoresSettingsOfTheClient(t *testing.T) {
	s := start(t, devstack.Options{NoProxy: true, NamePrefix: "dek-"})
	for _, setting := range []string{
		"VAULT_FORMAT=json", "VAULT_FORMAT=yaml", "VAULT_FORMAT=pretty", "VAULT_FORMAT=raw", "VAULT_WRAP_TTL=60s",
		"VAULT_DETAILED=true", "VAULT_MFA=x:y", "VAULT_LOG_LEVEL=trace", "BAO_FORMAT=json", "BAO_WRAP_TTL=60s",
	} {
		before := settings(t, s)
		out, code := runScript(t, s, setting)
		require.Equal(t, 0, code, "%s: %s", setting, out)
		assert.Empty(t, said(out), setting)
		assert.Equal(t, before, settings(t, s), setting)
	}
}

// TestBootstrapChecksItsVariables has variables that Vault would refuse in the middle of
// the run, or take for something else, and the durations that it takes.
func TestBootstrapChecksItsVariables(t *testing.T) {
	s := start(t, devstack.Options{NoProxy: true, NamePrefix: "dek-"})
	const people = "USERPASS_MOUNT=people"
	refused := func(want string, env ...string) {
		t.Helper()
		before := settings(t, s)
		out, code := runScript(t, s, append(env, people)...)
		assert.Equal(t, 1, code, out)
		assert.Equal(t, []string{"bootstrap: " + want}, said(out))
		assert.Equal(t, before, settings(t, s), "nothing has changed")
	}
	const duration = " is a duration above 0, in seconds (900), with the units h, m and s (30m, 1h30m) or in days (7d): "
	refused("DEK_MOUNT is parts of A-Z a-z 0-9 . _ - with / in between, none of them empty, . or ..: ../x", "DEK_MOUNT=../x")
	refused("JWT_AUDIENCE is audiences separated by commas, none of them empty: ,", "JWT_AUDIENCE=,")
	refused("JWT_TOKEN_TTL"+duration+"soon", "JWT_TOKEN_TTL=soon")
	refused("USERPASS_TTL"+duration+"0", "USERPASS_TTL=0")
	refused("USERPASS_TTL must not be above USERPASS_MAX_TTL: 30m is more than 10m (30m and 8h are the defaults)", "USERPASS_MAX_TTL=10m")
	refused("USERPASS_TTL must not be above USERPASS_MAX_TTL: 9h is more than 8h (30m and 8h are the defaults)", "USERPASS_TTL=9h")
	require.NotEqual(t, http.StatusOK, callRoot(t, s, http.MethodGet, "sys/auth/people", nil).Status, "the auth mount is not enabled")

	sessions := func(env ...string) []any {
		t.Helper()
		out, code := runScript(t, s, append(env, people)...)
		require.Equal(t, 0, code, out)
		tuned := callRoot(t, s, http.MethodGet, "sys/auth/people/tune", nil).data()
		return []any{tuned["default_lease_ttl"], tuned["max_lease_ttl"]}
	}
	assert.Equal(t, []any{90.0, 86400.0}, sessions("USERPASS_TTL=90", "USERPASS_MAX_TTL=1d", "JWT_TOKEN_TTL=1h1m1s"))
	assert.Equal(t, 3661.0, callRoot(t, s, http.MethodGet, "auth/jwt/role/dek", nil).data()["token_ttl"])
	refused("USERPASS_TTL must not be above USERPASS_MAX_TTL: 25h is more than 86400s (auth/people/ has 90s and 86400s)", "USERPASS_TTL=25h")
	refused("USERPASS_TTL must not be above USERPASS_MAX_TTL: 90s is more than 1m (auth/people/ has 90s and 86400s)", "USERPASS_MAX_TTL=1m")
	assert.Equal(t, []any{5400.0, 86400.0}, sessions("USERPASS_TTL=1h30m"))
	assert.Equal(t, []any{5400.0, 7200.0}, sessions("USERPASS_MAX_TTL=2h"))

	// A mount that somebody else made, with lifetimes that are the server's.
	require.Equal(t, http.StatusNoContent, callRoot(t, s, http.MethodDelete, "sys/auth/people", nil).Status)
	require.Equal(t, http.StatusNoContent, callRoot(t, s, http.MethodPost, "sys/auth/people", map[string]any{"type": "userpass"}).Status)
	assert.Equal(t, 28800.0, sessions("USERPASS_MAX_TTL=8h")[1])
	refused("USERPASS_TTL must not be above USERPASS_MAX_TTL: 9h is more than 28800s (auth/people/ has 0s and 28800s)", "USERPASS_TTL=9h")
}
