// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

//go:build acceptance

package acceptance

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/vault-plugin-dek/vault-plugin-dek/internal/devstack"
)

// ownProxy starts a proxy of the test's own in front of the stack's Vault, so that
// refused logins do not slow other tests down, and returns its URL.
func ownProxy(t *testing.T, s *devstack.Stack, args ...string) string {
	t.Helper()
	root, err := devstack.RepoRoot()
	require.NoError(t, err)
	file := filepath.Join(t.TempDir(), "address")
	cmd := exec.Command(filepath.Join(root, "bin", "dek-proxy"),
		append(args, "-listen", "127.0.0.1:0", "-listen-file", file)...)
	cmd.Env = []string{"VAULT_ADDR=" + s.VaultAddr()}
	require.NoError(t, cmd.Start())
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	var address []byte
	require.Eventually(t, func() bool {
		address, err = os.ReadFile(file)
		return err == nil
	}, time.Minute, rotationTick)
	return "http://" + strings.TrimSpace(string(address))
}

// userpass enables logins with a password for a test.
func userpass(t *testing.T, s *devstack.Stack, users ...string) {
	t.Helper()
	a := callRoot(t, s, http.MethodPost, "sys/auth/userpass", map[string]string{"type": "userpass"})
	require.Equal(t, http.StatusNoContent, a.Status, a.errors())
	t.Cleanup(func() { assert.NoError(t, s.Client().Sys().DisableAuth("userpass")) })
	for _, user := range users {
		a = callRoot(t, s, http.MethodPost, "auth/userpass/users/"+user, map[string]any{"password": "right", "token_policies": "key_admin"})
		require.Equal(t, http.StatusNoContent, a.Status, a.errors())
	}
}

func sessionHeader(session string) http.Header { return http.Header{"Infa-Session-Id": {session}} }

func passwordLogin(t *testing.T, proxy, user, password string) answer {
	t.Helper()
	return send(t, http.MethodPost, proxy+"/saas/public/core/v3/login", http.Header{"Content-Type": {"application/json"}},
		map[string]string{"username": user, "password": password})
}

// guessesAlice guesses a password until guesses are refused, and returns how many were not, and
// the answer to the right one, which is taken if a guess is free again by then: on a busy
// machine that is repeated.
func guessesAlice(t *testing.T, proxy string) (a answer, wrong int) {
	t.Helper()
	for range 5 {
		for a = passwordLogin(t, proxy, "alice", "wrong"); a.Status == http.StatusUnauthorized; wrong++ {
			publicError(t, a, http.StatusUnauthorized)
			a = passwordLogin(t, proxy, "alice", "wrong")
		}
		publicError(t, a, http.StatusTooManyRequests)
		if a = passwordLogin(t, proxy, "alice", "right"); a.Status != http.StatusOK {
			break
		}
	}
	return a, wrong
}

// TestContractProxyThrottle: guesses end after a few, and worthless JWTs after some.
func TestContractProxyThrottle(t *testing.T) {
	s := shared(t)
	userpass(t, s, "alice", "bob")
	proxy := ownProxy(t, s)
	good := mint(t, s, "", "key_admin")
	settings := func(session string) answer {
		return send(t, http.MethodGet, proxy+settingsPaths[0], sessionHeader(session), nil)
	}
	require.Equal(t, http.StatusOK, settings(good).Status)
	began := time.Now()
	a, wrong := guessesAlice(t, proxy)
	publicError(t, a, http.StatusTooManyRequests)
	assert.GreaterOrEqual(t, wrong, 10)
	assert.LessOrEqual(t, wrong, 10+int(time.Since(began)/(6*time.Second)), "one more for each six seconds that pass meanwhile")
	assert.NotEmpty(t, a.Header.Get("Retry-After"))
	require.Equal(t, http.StatusOK, passwordLogin(t, proxy, "bob", "right").Status)

	refused := wrong
	for i := range 1000 {
		a = settings(resigned(t, issuerKey(t, s), good, map[string]any{"sub": uuid.NewString(), "aud": fmt.Sprint(i)}))
		if a.Status != http.StatusUnauthorized {
			break
		}
		refused++
	}
	publicError(t, a, http.StatusTooManyRequests)
	assert.NotEmpty(t, a.Header.Get("Retry-After"))
	assert.GreaterOrEqual(t, refused, 30)
	assert.LessOrEqual(t, refused, 31+int(time.Since(began)/(2*time.Second)), "one more for each two seconds that pass meanwhile")
	assert.Equal(t, http.StatusOK, settings(good).Status, "who is logged in goes on")

	require.Equal(t, http.StatusOK, settings(s.RootToken()).Status, "tokens are counted apart from logins")
	for unknown := 0; ; unknown++ {
		a = settings("hvs." + strings.ReplaceAll(uuid.NewString(), "-", ""))
		if a.Status != http.StatusUnauthorized {
			assert.GreaterOrEqual(t, unknown, 300)
			break
		}
	}
	publicError(t, a, http.StatusTooManyRequests)
	assert.NotEmpty(t, a.Header.Get("Retry-After"))
	assert.Equal(t, http.StatusOK, settings(s.RootToken()).Status, "whose token is known goes on")
}

// TestContractProxyLogout: a session is at an end for everybody.
func TestContractProxyLogout(t *testing.T) {
	s := shared(t)
	userpass(t, s, "carol")
	for _, prefix := range []string{"/public", "/saas/public"} {
		a := passwordLogin(t, s.ProxyURL(), "carol", "right")
		require.Equal(t, http.StatusOK, a.Status)
		session := a.Body["userInfo"].(map[string]any)["sessionId"].(string)
		logout := func() answer {
			return send(t, http.MethodPost, s.ProxyURL()+prefix+"/core/v3/logout", sessionHeader(session), nil)
		}
		settings := func() answer {
			return send(t, http.MethodGet, s.ProxyURL()+settingsPaths[0], sessionHeader(session), nil)
		}
		require.Equal(t, http.StatusOK, settings().Status)
		require.Equal(t, http.StatusNoContent, logout().Status)
		publicError(t, settings(), http.StatusUnauthorized)
		publicError(t, logout(), http.StatusUnauthorized)
		assert.Equal(t, http.StatusForbidden, call(t, s, http.MethodGet, "auth/token/lookup-self", session, nil).Status)

		session = mint(t, s, "", "key_admin")
		require.Equal(t, http.StatusOK, settings().Status)
		require.Equal(t, http.StatusNoContent, logout().Status)
		publicError(t, settings(), http.StatusUnauthorized)
	}
}

// TestContractProxyIdentity: whom Vault takes for somebody else is not let in.
func TestContractProxyIdentity(t *testing.T) {
	s := shared(t)
	one, two := newTenant(t, s), newTenant(t, s)
	as := func(sub, tenant string, roles ...string) string {
		jwt, err := s.MintJWT(devstack.Claims{Subject: sub, TenantID: tenant, Roles: roles})
		require.NoError(t, err)
		return jwt
	}
	status := func(jwt, tenant string) int {
		return getRotation(t, s, jwt, tenant, "rot-"+uuid.NewString()).Status
	}
	t.Run("two users of one entity", func(t *testing.T) {
		sub := "App-One-" + uuid.NewString()
		first, second := as(sub, one, "security_admin"), as(strings.ToLower(sub), two, "security_admin")
		assert.Equal(t, http.StatusNotFound, status(first, one))
		assert.Equal(t, http.StatusUnauthorized, status(second, two))
		assert.Equal(t, http.StatusUnauthorized, status(second, one))
		assert.Equal(t, http.StatusNotFound, status(first, one))
	})
	t.Run("one user of two tenants", func(t *testing.T) {
		sub := uuid.NewString()
		first, second := as(sub, one, "security_admin"), as(sub, two, "security_admin")
		for range 2 {
			assert.Equal(t, http.StatusNotFound, status(first, one))
			assert.Equal(t, http.StatusNotFound, status(second, two))
			assert.Equal(t, http.StatusForbidden, status(first, two))
			assert.Equal(t, http.StatusForbidden, status(second, one))
		}
	})
	t.Run("one user with two sets of roles", func(t *testing.T) {
		sub := uuid.NewString()
		none, all := as(sub, one), as(sub, one, "super_admin")
		assert.Equal(t, http.StatusForbidden, status(none, one))
		assert.Equal(t, http.StatusNotFound, status(all, two))
		assert.Equal(t, http.StatusForbidden, status(none, one), "the roles of the other JWT are not its own")
	})
	t.Run("a role in another spelling", func(t *testing.T) {
		for _, role := range []string{"Super_Admin", "SECURITY_ADMIN"} {
			assert.Equal(t, http.StatusUnauthorized, status(as(uuid.NewString(), one, role), one))
		}
	})
	t.Run("roles that are one string", func(t *testing.T) {
		asString := func(sub, role string) string {
			jwt, err := s.MintJWT(devstack.Claims{Subject: sub, TenantID: one, Extra: map[string]any{"roles": role}})
			require.NoError(t, err)
			return jwt
		}
		sub := uuid.NewString()
		none := as(sub, one)
		assert.Equal(t, http.StatusForbidden, status(none, two))
		assert.Equal(t, http.StatusNotFound, status(asString(sub, "super_admin"), two), "Vault takes it for a list of one")
		assert.Equal(t, http.StatusForbidden, status(none, two), "the role of the other JWT is not its own")
		assert.Equal(t, http.StatusUnauthorized, status(asString(uuid.NewString(), "Super_Admin"), two))
	})
}

// TestContractProxyTrace: Vault's audit log can tell which request of which client a
// call was made for.
func TestContractProxyTrace(t *testing.T) {
	s := shared(t)
	file := filepath.Join(s.DataDir(), "trace-audit.log")
	a := callRoot(t, s, http.MethodPut, "sys/audit/trace", map[string]any{"type": "file", "options": map[string]string{"file_path": file}})
	require.Equal(t, http.StatusNoContent, a.Status, a.errors())
	t.Cleanup(func() { assert.NoError(t, s.Client().Sys().DisableAudit("trace")) })
	for _, name := range []string{"X-Request-Id", "X-Forwarded-For", "User-Agent"} {
		a := callRoot(t, s, http.MethodPut, "sys/config/auditing/request-headers/"+name, map[string]any{"hmac": false})
		require.Equal(t, http.StatusNoContent, a.Status, a.errors())
		t.Cleanup(func() {
			_, err := s.Client().Logical().Delete("sys/config/auditing/request-headers/" + name)
			assert.NoError(t, err)
		})
	}
	proxy := ownProxy(t, s, "-trusted-proxies", "127.0.0.1")
	id := "trace-" + uuid.NewString()
	header := sessionHeader(mint(t, s, "", "key_admin"))
	header.Set("X-Request-Id", id)
	header.Set("X-Forwarded-For", "198.51.100.7")
	require.Equal(t, http.StatusOK, send(t, http.MethodGet, proxy+settingsPaths[0], header, nil).Status)

	raw, err := os.ReadFile(file)
	require.NoError(t, err)
	paths := map[string]bool{}
	for line := range strings.Lines(string(raw)) {
		var entry struct {
			Type    string `json:"type"`
			Request struct {
				Path    string              `json:"path"`
				Headers map[string][]string `json:"headers"`
			} `json:"request"`
		}
		require.NoError(t, json.Unmarshal([]byte(line), &entry))
		headers := entry.Request.Headers
		if entry.Type != "request" || len(headers["x-request-id"]) == 0 || headers["x-request-id"][0] != id {
			continue
		}
		paths[strings.SplitN(entry.Request.Path, "/id/", 2)[0]] = true
		assert.Equal(t, []string{"198.51.100.7"}, headers["x-forwarded-for"])
		require.Len(t, headers["user-agent"], 1)
		assert.Regexp(t, `^dek-proxy/v\d`, headers["user-agent"][0])
	}
	assert.Equal(t, map[string]bool{"auth/jwt/login": true, "identity/entity": true, "dek/key/rotationSettings": true}, paths)
}

func TestContractProxyOpenAPI(t *testing.T) {
	a := callProxy(t, shared(t), http.MethodGet, "/openapi.json", nil)
	require.Equal(t, http.StatusOK, a.Status)
	assert.Equal(t, "3.1.0", a.Body["openapi"])
	assert.Contains(t, a.Body["paths"], rotatePath)
}
