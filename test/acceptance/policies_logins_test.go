// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

//go:build acceptance

package acceptance

import (
	"net/http"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/vault-plugin-dek/vault-plugin-dek/internal/devstack"
)

// loginAs is the answer to a login through a login role.
func loginAs(t *testing.T, s *devstack.Stack, role, jwt string) (answer, string) {
	t.Helper()
	a := call(t, s, http.MethodPost, "auth/jwt/login", "", map[string]any{"role": role, "jwt": jwt})
	auth, _ := a.Body["auth"].(map[string]any)
	token, _ := auth["client_token"].(string)
	return a, token
}

// TestLoginRolesOfOneDuty logs in through the login roles of those roles that many
// people have: the JWT must have the role, the tenant must be there and no pattern,
// and no group grows.
func TestLoginRolesOfOneDuty(t *testing.T) {
	s := shared(t)
	tenant := newTenant(t, s)
	item := tenantPath(tenant, "secrets/a")
	succeeded(t, callRoot(t, s, http.MethodPut, item, map[string]any{"data": map[string]any{"v": "1"}}))
	members := func(role string) int {
		a := callRoot(t, s, http.MethodGet, "identity/group/name/"+role, nil)
		list, _ := a.data()["member_entity_ids"].([]any)
		return len(list)
	}

	for _, role := range boundRoles {
		before := members(role)
		a, token := loginAs(t, s, "dek-"+role, mint(t, s, tenant, allRoles...))
		require.NotEmpty(t, token, "%s: %s", role, a.errors())
		auth, _ := a.Body["auth"].(map[string]any)
		assert.ElementsMatch(t, []any{"default", role}, auth["policies"], "the one policy, whatever roles the JWT has besides")
		assert.Equal(t, before, members(role), "%s: no group grows", role)
		want := http.StatusForbidden
		if role == application {
			want = http.StatusOK
		}
		assert.Equal(t, want, call(t, s, http.MethodGet, item, token, nil).Status, role)

		for name, jwt := range map[string]string{
			"no role":      mint(t, s, tenant),
			"another role": mint(t, s, tenant, superAdmin, "x"+role),
			"no tenant":    mint(t, s, "", role),
			"empty":        mintWithClaim(t, s, "", []string{role}),
			"a segment":    mintWithClaim(t, s, "+", []string{role}),
			"anything":     mintWithClaim(t, s, "*", []string{role}),
			"any item":     mintWithClaim(t, s, "+/credentials/*", []string{role}),
		} {
			a, token := loginAs(t, s, "dek-"+role, jwt)
			assert.Equal(t, http.StatusBadRequest, a.Status, "%s, %s", role, name)
			assert.Empty(t, token, "%s, %s", role, name)
		}
	}
}

// TestRolesOfAnotherDirectory has a mount whose roles need a prefix in the claim.
func TestRolesOfAnotherDirectory(t *testing.T) {
	s := start(t, devstack.Options{NoProxy: true, NamePrefix: "dek-"})
	out, code := runScript(
		t, s, "JWT_MOUNT=second", "NAME_PREFIX=second-", "JWT_ROLE_PREFIX=dek:", "DEK_ROLES=auditor application",
		"JWT_PUBKEY_FILE="+s.DataDir()+"/jwt-public.pem", "JWT_ISSUER=https://devstack.invalid",
	)
	require.Equal(t, 0, code, out)
	tenant := newTenant(t, s)
	for role, want := range map[string]int{
		"dek:auditor": http.StatusOK, "auditor": http.StatusForbidden, "Auditor": http.StatusForbidden, "dek:auditor2": http.StatusForbidden,
		"dek:application": http.StatusForbidden,
	} {
		a := call(t, s, http.MethodPost, "auth/second/login", "", map[string]any{"role": "dek", "jwt": mint(t, s, tenant, role)})
		auth, _ := a.Body["auth"].(map[string]any)
		token, _ := auth["client_token"].(string)
		require.NotEmpty(t, token, a.errors())
		assert.Equal(t, want, call(t, s, http.MethodGet, "dek/config", token, nil).Status, role)
	}
	a := call(t, s, http.MethodPost, "auth/second/login", "", map[string]any{
		"role": "dek-application", "jwt": mint(t, s, tenant, "dek:application"),
	})
	assert.Equal(t, http.StatusOK, a.Status, a.errors())
	out, code = runScript(t, s, "JWT_MOUNT=second", "NAME_PREFIX=second-", "JWT_ROLE_PREFIX=dek:", "DEK_ROLES=auditor application")
	require.Equal(t, 0, code, out)
	assert.Empty(t, said(out))
}
