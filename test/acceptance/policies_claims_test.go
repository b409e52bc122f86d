// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

//go:build acceptance

package acceptance

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/google/uuid"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/vault-plugin-dek/vault-plugin-dek/internal/devstack"
)

// tenantClaim is a value of the claim tenant_id that is not the ID of a tenant
// and tries to be a path or a pattern that reaches a victim's.
type tenantClaim struct {
	name  string
	claim any
	// engine names the roles which policies alone do not hold: on a Vault that
	// takes such a claim into a template, only the engine's own look at the
	// claim can refuse them. Where no role is named, policies refuse everybody.
	engine []string
	// engineForKeys says the same of security_admin and the states of other
	// tenants' keys.
	engineForKeys bool
}

func tenantClaims(victim string) []tenantClaim {
	bound := []string{securityAdmin, application}
	return []tenantClaim{
		{name: "empty", claim: ""},
		{name: "any text", claim: "*"},
		{name: "any segment", claim: "+", engine: []string{application}, engineForKeys: true},
		{name: "any item of anybody", claim: "+/credentials/*"},
		{name: "any item of anybody, by segments", claim: "+/credentials/+", engine: bound},
		{name: "any item of the victim", claim: victim + "/credentials/*"},
		{name: "anything of the victim", claim: victim + "/*"},
		{name: "anything of the victim, by segment", claim: victim + "/+", engine: bound},
		{name: "the beginning of the victim", claim: victim[:1] + "*"},
		{name: "one kind of the victim", claim: victim + "/credentials", engine: bound},
		{name: "one item of the victim", claim: victim + "/credentials/x", engine: bound},
		{name: "the victim and a slash", claim: victim + "/"},
		{name: "a slash and the victim", claim: "/" + victim},
		{name: "upwards", claim: uuid.NewString() + "/../" + victim},
		{name: "upper case", claim: strings.ToUpper(victim)},
		{name: "blanks", claim: " " + victim + "\n"},
		{name: "full-width digits", claim: strings.Map(func(r rune) rune {
			if r >= '0' && r <= '9' {
				return r - '0' + '０'
			}
			return r
		}, victim)},
		{name: "escaped", claim: strings.ReplaceAll(victim, "-", "%2D")},
		{name: "a NUL", claim: victim + "\x00"},
		{name: "a query", claim: victim + "?list=true"},
		{name: "a template", claim: "{{identity.entity.id}}"},
		{name: "a URN", claim: "urn:uuid:" + victim},
		{name: "no hyphens", claim: strings.ReplaceAll(victim, "-", "")},
	}
}

// TestTenantClaims logs in with each claim and each role, and all of them
// together, and asks for every item of two tenants. The names are such that a
// policy's path behind a claim with a slash is one of them.
func TestTenantClaims(t *testing.T) {
	s := shared(t)
	victim, neighbour := newTenant(t, s), newTenant(t, s)
	paths := guardedPaths(t, s, victim, neighbour)
	roles := [][]string{nil, allRoles}
	for _, role := range allRoles {
		roles = append(roles, []string{role})
	}
	for _, c := range tenantClaims(victim) {
		if !c.engineForKeys {
			token := loginWithClaim(t, s, c.claim, []string{securityAdmin, application})
			for _, tenant := range []string{victim, neighbour} {
				key := guardedPath{http.MethodGet, tenantPath(tenant, "dek"), nil, "current_key_id"}
				requireHidden(t, s, key, token, fmt.Sprintf("claim %q", c.name))
			}
		}
		for _, who := range roles {
			if slices.ContainsFunc(who, func(role string) bool { return slices.Contains(c.engine, role) }) {
				continue // the engine's to refuse
			}
			token := loginWithClaim(t, s, c.claim, who)
			for _, path := range paths {
				requireHidden(t, s, path, token, fmt.Sprintf("claim %q, %v", c.name, who))
			}
		}
	}

	t.Run("the tenant itself", func(t *testing.T) {
		for _, who := range roles {
			token := loginWithClaim(t, s, victim, who)
			for _, path := range paths {
				if slices.Contains(who, application) && strings.Contains(path.path, victim) {
					a := call(t, s, path.method, path.path, token, path.body)
					assert.Contains(t, string(a.Raw), path.reveals, "%s %s", path.method, path.path)
					continue
				}
				requireHidden(t, s, path, token, fmt.Sprintf("%v of the victim", who))
			}
		}
	})
	t.Run("claims that are no text", func(t *testing.T) {
		for _, claim := range []any{7, true, []string{victim}, map[string]any{"id": victim}} {
			_, err := s.Login(t.Context(), mintWithClaim(t, s, claim, allRoles))
			assert.Error(t, err, "%v", claim)
		}
	})
}

// guardedPath is a request whose answer holds a text that only an application
// of the tenant may see.
type guardedPath struct {
	method, path string
	body         any
	reveals      string
}

// guardedPaths fills the tenants with items, and lists every way to see them.
func guardedPaths(t *testing.T, s *devstack.Stack, tenants ...string) []guardedPath {
	t.Helper()
	const plaintext = "c2VjcmV0"
	var paths []guardedPath
	for _, tenant := range tenants {
		for _, kind := range []string{"credentials", "apiKeys", "secrets"} {
			for _, name := range []string{
				"x", "dek", "dek/rotations/x", "x/dek", "x/dek/rotations/x", "credentials/x", "x/credentials/x", "x/secrets/x/x",
				"x/kek", "x/holders/x", "x/evidence/x", "x/dek/current",
			} {
				value := uuid.NewString()
				path := tenantPath(tenant, kind, name)
				succeeded(t, callRoot(t, s, http.MethodPut, path, map[string]any{"data": map[string]any{"value": value}}))
				paths = append(paths, guardedPath{http.MethodGet, path, nil, value})
			}
			paths = append(paths, guardedPath{"LIST", tenantPath(tenant, kind), nil, "x/credentials/x"})
		}
		sealed := succeeded(t, callRoot(t, s, http.MethodPut, tenantPath(tenant, "encrypt"), map[string]any{"plaintext": plaintext}))
		paths = append(
			paths,
			guardedPath{http.MethodPut, tenantPath(tenant, "decrypt"), map[string]any{"ciphertext": sealed["ciphertext"]}, plaintext},
			guardedPath{http.MethodPut, tenantPath(tenant, "datakey/plaintext"), nil, "plaintext"},
		)
	}
	return paths
}

func requireHidden(t *testing.T, s *devstack.Stack, p guardedPath, token, who string) {
	t.Helper()
	a := call(t, s, p.method, p.path, token, p.body)
	require.NotContains(t, string(a.Raw), p.reveals, "%s: %s %s", who, p.method, p.path)
	require.GreaterOrEqual(t, a.Status, 400, "%s: %s %s", who, p.method, p.path)
}

func mintWithClaim(t *testing.T, s *devstack.Stack, claim any, roles []string) string {
	t.Helper()
	token, err := s.MintJWT(devstack.Claims{
		Name: "Test Person", Email: "test.person@example.com", Roles: roles, Extra: map[string]any{"tenant_id": claim},
	})
	require.NoError(t, err)
	return token
}

func loginWithClaim(t *testing.T, s *devstack.Stack, claim any, roles []string) string {
	t.Helper()
	token, err := s.Login(t.Context(), mintWithClaim(t, s, claim, roles))
	require.NoError(t, err)
	return token
}
