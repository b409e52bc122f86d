// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

//go:build acceptance

package acceptance

import (
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/google/uuid"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/vault-plugin-dek/vault-plugin-dek/internal/devstack"
)

func TestContractItemNames(t *testing.T) {
	s := shared(t)
	tenant := newTenant(t, s)
	for _, name := range []string{
		"a", "0", "-", "_", "@", ":", "a.b", "a..b", ".a", "..a", "...", "a/b", "a/b/c/d/e", "AbC", "https:x", "secrets", "dek/rotate",
		"a%2Fb", "%61bc", text(256), text(128) + "/" + text(127),
	} {
		path := tenantPath(tenant, "secrets", name)
		put(t, s, path, map[string]any{"data": map[string]any{"name": name}})
		item := succeeded(t, callRoot(t, s, http.MethodGet, path, nil))
		assert.Equal(t, map[string]any{"name": name}, item["data"])
	}
	assert.Subset(t, keys(t, callRoot(t, s, "LIST", tenantPath(tenant, "secrets"), nil)), []string{"a/b", "abc", "dek/rotate"})

	before := succeeded(t, callRoot(t, s, http.MethodGet, tenantPath(tenant), nil))
	for _, name := range []string{
		"a%20b", "a+b", "a%25b", "%c3%a9", "%e6%9d%b1", "%f0%9f%94%91", "a*b", "a~b", "a,b", "a%5Cb", "a%3Fb", "a%23b", "%24", "(a)",
		"%2e", "a/%2e/b", text(257), text(128) + "/" + text(128),
	} {
		for _, method := range []string{http.MethodPut, http.MethodGet, http.MethodPatch, http.MethodDelete} {
			a := callRoot(t, s, method, tenantPath(tenant, "secrets", name), map[string]any{"data": map[string]any{}})
			assert.Equal(t, http.StatusBadRequest, a.Status, "%s %s: %s", method, name, a.Raw)
		}
	}
	assert.Equal(t, before, succeeded(t, callRoot(t, s, http.MethodGet, tenantPath(tenant), nil)))
}

// TestContractPathTricks tries to reach one tenant through the path of another
// with a token that may do everything below the second, and to write what has no
// proper name. Vault redirects some of it to the path without the tricks, where
// its policies decide again. Nothing is written, and nothing is a fault.
func TestContractPathTricks(t *testing.T) {
	s := shared(t)
	own, other := newTenant(t, s), newTenant(t, s)
	put(t, s, tenantPath(other, "secrets/mine"), map[string]any{"data": map[string]any{"v": "of the other"}})
	token := tokenFor(t, s, `path "dek/tenants/`+own+`/*" { capabilities = ["create", "read", "update", "patch", "delete", "list"] }`)
	state := func() []any {
		return []any{
			succeeded(t, callRoot(t, s, http.MethodGet, tenantPath(own), nil)), readDEK(t, s, other), readDEK(t, s, own),
			succeeded(t, callRoot(t, s, http.MethodGet, tenantPath(other, "secrets/mine"), nil)),
		}
	}
	before := state()
	body := map[string]any{"data": map[string]any{"v": "changed"}}
	methods := []string{http.MethodGet, http.MethodPut, http.MethodDelete, http.MethodPatch, "LIST"}
	for _, below := range []string{
		"../%s/secrets/mine", "..%%2f%s/secrets/mine", "%%2e%%2e/%s/secrets/mine", "%%2e%%2e%%2f%s%%2fsecrets%%2fmine",
		"secrets/../../%s/secrets/mine", "secrets/..%%2f..%%2f%s/secrets/mine", "secrets/%%2e%%2e/%%2e%%2e/%s/secrets/mine",
		"/../%s/secrets/mine", "//../%s//secrets/mine", "..;/%s/secrets/mine", "..%%5c%s/secrets/mine", "..%%00/%s/secrets/mine",
		"../%s/dek/rotate", "%%2e%%2e/%s/dek/rotate", "secrets/..%%2f..%%2f%s/dek/rotate",
	} {
		for _, method := range methods {
			path := tenantPath(own, fmt.Sprintf(below, other))
			a := call(t, s, method, path, token, body)
			assert.GreaterOrEqual(t, a.Status, 400, "%s %s", method, path)
			assert.Less(t, a.Status, 500, "%s %s", method, path)
		}
	}
	for _, below := range []string{
		"secrets//a", "secrets/a//b", "secrets/a//", "secrets/./a", "secrets/a/.", "secrets/a/..", "/secrets/a", "secrets/a/",
		"secrets/a%2f", "secrets/%2fa", "secrets/a%2f%2fb", "secrets/a%2f%2e%2e%2fb", "secrets/a%2f%2e", "secrets%2f", "secrets%2f%2e%2e",
	} {
		for _, method := range methods[:4] {
			status := unfollowed(t, s, method, tenantPath(own, below), token)
			assert.GreaterOrEqual(t, status, 300, "%s %s", method, below)
			assert.Less(t, status, 500, "%s %s", method, below)
		}
	}
	assert.Equal(t, before, state())
}

// unfollowed is the status of the first answer, even if it is a redirect.
func unfollowed(t *testing.T, s *devstack.Stack, method, path, token string) int {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, s.VaultAddr()+"/v1/"+path, strings.NewReader(`{"data": {"v": 1}}`))
	require.NoError(t, err)
	req.Header.Set("X-Vault-Token", token)
	req.Header.Set("Content-Type", "application/merge-patch+json")
	resp, err := http.DefaultTransport.RoundTrip(req)
	require.NoError(t, err)
	require.NoError(t, resp.Body.Close())
	return resp.StatusCode
}

// tokenFor is a token of a policy of its own.
func tokenFor(t *testing.T, s *devstack.Stack, policy string) string {
	t.Helper()
	name := uuid.NewString()
	a := callRoot(t, s, http.MethodPut, "sys/policies/acl/"+name, map[string]any{"policy": policy})
	require.Equal(t, http.StatusNoContent, a.Status, a.errors())
	a = callRoot(t, s, http.MethodPost, "auth/token/create", map[string]any{"policies": []string{name}, "no_default_policy": true})
	require.Equal(t, http.StatusOK, a.Status, a.errors())
	auth, _ := a.Body["auth"].(map[string]any)
	token, _ := auth["client_token"].(string)
	require.NotEmpty(t, token)
	return token
}

func TestContractUnknownFields(t *testing.T) {
	s := shared(t)
	tenant := newTenant(t, s)
	for path, body := range map[string]map[string]any{
		"dek/config":                                 {},
		tenantPath(tenant):                           {},
		tenantPath(tenant, "dek/rotate"):             {},
		tenantPath(tenant, "secrets/a"):              {"data": map[string]any{}},
		tenantPath(tenant, "items"):                  {"items": []any{map[string]any{"kind": "secrets", "name": "b", "data": map[string]any{}}}},
		"dek/key/rotationSettings?no=such+parameter": {"rotation_interval": "365_DAYS"},
	} {
		body["no_such_field"] = 1
		a := callRoot(t, s, http.MethodPut, path, body)
		require.Equal(t, http.StatusOK, a.Status, a.errors())
		assert.Contains(t, fmt.Sprint(a.Body["warnings"]), "no_such_field", path)
	}
}

func TestContractUnknownPaths(t *testing.T) {
	s := shared(t)
	tenant := newTenant(t, s)
	for _, path := range []string{
		"dek/nothing", "dek/tenants/" + tenant + "/nothing", tenantPath(tenant, "passwords/a"), tenantPath(tenant, "Secrets/a"),
		tenantPath(tenant, "dek/rotations/x/y/z"), "dek/config/x", "dek/key", "dek/key/rotationsettings",
	} {
		for _, method := range []string{http.MethodGet, http.MethodPut, http.MethodDelete} {
			a := callRoot(t, s, method, path, nil)
			assert.Contains(t, []int{http.StatusNotFound, http.StatusMethodNotAllowed}, a.Status, "%s %s: %s", method, path, a.Raw)
		}
	}
	for path, method := range map[string]string{
		"dek/config": http.MethodDelete, "dek/key/rotationSettings": http.MethodDelete, "dek/tenants": http.MethodPut,
		tenantPath(tenant, "dek"): http.MethodPut, tenantPath(tenant, "dek/rotate"): http.MethodGet,
		tenantPath(tenant, "items"): http.MethodGet, tenantPath(tenant, "dek/rotations"): http.MethodPut,
	} {
		a := callRoot(t, s, method, path, nil)
		assert.Equal(t, http.StatusMethodNotAllowed, a.Status, "%s %s: %s", method, path, a.Raw)
	}
}
