// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

//go:build acceptance

package acceptance

import (
	"fmt"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/uuid"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/vault-plugin-dek/vault-plugin-dek/internal/devstack"
)

// engineRefuses is what the engine says to a login whose claim is not a tenant's ID.
const engineRefuses = "this login's tenant_id is not a UUID in lower case"

// tenantClaim is a value of the claim tenant_id that is not the ID of a tenant
// and tries to be a path or a pattern that reaches a victim's.
type tenantClaim struct {
	name  string
	claim any
	// engine says that every server that takes slashes takes the claim into the paths of
	// its policies, so that only the engine's own look at the claim refuses it. Of the
	// others it depends on the server's version whether its policies or the engine refuse.
	engine bool
}

func tenantClaims(victim string) []tenantClaim {
	return []tenantClaim{
		{name: "empty", claim: ""},
		{name: "any text", claim: "*"},
		{name: "any segment", claim: "+"},
		{name: "any item of anybody", claim: "+/credentials/*"},
		{name: "any item of anybody, by segments", claim: "+/credentials/+"},
		{name: "any item of the victim", claim: victim + "/credentials/*"},
		{name: "anything of the victim", claim: victim + "/*"},
		{name: "anything of the victim, by segment", claim: victim + "/+"},
		{name: "the beginning of the victim", claim: victim[:1] + "*"},
		{name: "one kind of the victim", claim: victim + "/credentials", engine: true},
		{name: "one item of the victim", claim: victim + "/credentials/x", engine: true},
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

// TestTenantClaims logs in with each claim and each role that holds for a tenant, all
// roles together and none. It asks for every item of two tenants, and tries every
// operation on them. The names are such that a policy's path behind a claim with a
// slash is one of them.
func TestTenantClaims(t *testing.T) {
	s := shared(t)
	victim, neighbour := newTenant(t, s), newTenant(t, s)
	paths := guardedPaths(t, s, victim, neighbour)
	roles := [][]string{nil, allRoles}
	for _, role := range boundRoles {
		roles = append(roles, []string{role})
	}
	before := guardedState(t, s, victim, neighbour)
	slashes := takesSlashes(t, s, victim)
	for _, c := range tenantClaims(victim) {
		byEngine := 0
		for _, who := range roles {
			token := loginWithClaim(t, s, c.claim, who)
			for _, path := range paths {
				a := requireHidden(t, s, path, token, fmt.Sprintf("claim %q, %v", c.name, who))
				byEngine += strings.Count(a.errors(), engineRefuses)
			}
		}
		token := loginWithClaim(t, s, c.claim, boundRoles)
		for _, path := range changingPaths(c.claim.(string), victim, neighbour) {
			a := requireHidden(t, s, path, token, fmt.Sprintf("claim %q", c.name))
			byEngine += strings.Count(a.errors(), engineRefuses)
		}
		if c.engine && slashes {
			require.NotZero(t, byEngine, "claim %q: the engine refuses, not only policies", c.name)
		}
	}
	require.Equal(t, before, guardedState(t, s, victim, neighbour), "nothing has changed")

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

// changingPaths are requests for each operation on a tenant that there is, with what
// makes most of them succeed. A claim that does not name the victim tries them on the
// neighbour as well.
func changingPaths(claim, victim, neighbour string) []guardedPath {
	body := map[string]any{
		"data": map[string]any{"value": "theirs"}, "metadata": map[string]any{"value": "theirs"}, "custom_metadata": map[string]any{"value": "theirs"},
		"items":     []any{map[string]any{"kind": "credentials", "name": "x", "data": map[string]any{"value": "theirs"}}},
		"plaintext": "c2VjcmV0", "versions": []int{1}, "description": "theirs", "display_name": "theirs", "force": true,
	}
	tenants := []string{victim}
	if !strings.Contains(claim, victim) {
		tenants = append(tenants, neighbour)
	}
	var paths []guardedPath
	for _, p := range permissions {
		form, isTenants := strings.Replace(p.path, "{tenant_id}", "{tenant}", 1), strings.Contains(p.path, "{tenant_id}")
		if !isTenants || strings.HasPrefix(p.path, "tombstones/") {
			continue
		}
		form = strings.NewReplacer("{kind}", "credentials", "{action}", "cancel").Replace(form)
		names := []string{"x"}
		if strings.Contains(form, "{name}") {
			names = []string{"x", "x/credentials/x", "x/encrypt", "dek/rotate"}
		}
		for _, tenant := range tenants {
			for _, name := range names {
				filled := strings.NewReplacer("{tenant}", tenant, "{name}", name).Replace(form)
				paths = append(paths, guardedPath{vaultOperations[p.operation], examples(filled, tenant)[0], body, "theirs"})
			}
		}
	}
	return paths
}

// guardedState is what the requests of [changingPaths] would change.
func guardedState(t *testing.T, s *devstack.Stack, tenants ...string) (state []any) {
	t.Helper()
	for _, tenant := range tenants {
		state = append(state, succeeded(t, callRoot(t, s, http.MethodGet, "dek/tenants/"+tenant, nil)))
		for _, list := range []string{"credentials", "apiKeys", "secrets", "holders", "dek/rotations"} {
			state = append(state, callRoot(t, s, "LIST", tenantPath(tenant, list), nil).data())
		}
	}
	return state
}

// requireHidden requires that a caller gets past neither Vault's policies nor the engine.
func requireHidden(t *testing.T, s *devstack.Stack, p guardedPath, token, who string) answer {
	t.Helper()
	a := call(t, s, p.method, p.path, token, p.body)
	require.NotContains(t, string(a.Raw), p.reveals, "%s: %s %s", who, p.method, p.path)
	require.True(t, isHidden(a), "%s: %s %s: %d %s", who, p.method, p.path, a.Status, a.errors())
	return a
}

// internalError is all that a server says which fails before the engine is asked.
var internalError = regexp.MustCompile(`^(1 error occurred:\s+\* )?internal error\s*$`)

// isHidden reports whether an answer refuses a caller. A server that finds in an identity
// what it does not take into its policies may refuse all of the caller's requests, before
// it looks for the path: OpenBao then makes no policies of it, which it calls its own fault.
func isHidden(a answer) bool {
	return a.Status == http.StatusForbidden ||
		a.Status == http.StatusInternalServerError && internalError.MatchString(a.errors())
}

// takesSlashes reports whether the server takes a claim with a slash into the paths of its
// policies, as Vault does. OpenBao from 2.6 on leaves such paths out.
func takesSlashes(t *testing.T, s *devstack.Stack, victim string) bool {
	t.Helper()
	path := tenantPath(victim, "credentials/credentials/x") // which the policy's path is for this claim
	token := loginWithClaim(t, s, victim+"/credentials", []string{application})
	a := call(t, s, http.MethodPost, "sys/capabilities-self", token, map[string]any{"paths": []string{path}})
	if isHidden(a) {
		return false
	}
	granted, _ := succeeded(t, a)[path].([]any)
	require.NotEmpty(t, granted)
	return !slices.Contains(granted, any("deny"))
}

// TestHiddenAnswers has what servers answer to a caller who is not to see anything.
func TestHiddenAnswers(t *testing.T) {
	for status, want := range map[int]bool{200: false, 400: false, 403: true, 404: false, 503: false} {
		assert.Equal(t, want, isHidden(answer{Status: status}), status)
	}
	for text, want := range map[string]bool{
		"internal error": true, "1 error occurred:\n\t* internal error\n\n": true,
		"1 error occurred:\n\t* internal error of the engine\n\n": false, "": false,
	} {
		assert.Equal(t, want, isHidden(answer{Status: 500, Body: map[string]any{"errors": []any{text}}}), text)
	}
}

// TestEngineRefusesAnIdentityOfAnother logs in straight at Vault as two people whose
// names differ only in the case of letters. Vault gives the second the first one's
// entity, with the first one's tenant.
func TestEngineRefusesAnIdentityOfAnother(t *testing.T) {
	s := shared(t)
	first, second := newTenant(t, s), newTenant(t, s)
	id := uuid.NewString()
	as := func(subject, tenant string) string {
		t.Helper()
		jwt, err := s.MintJWT(devstack.Claims{Subject: subject, TenantID: tenant, Roles: []string{securityAdmin, application}})
		require.NoError(t, err)
		token, err := s.Login(t.Context(), jwt)
		require.NoError(t, err)
		return token
	}
	upper, lower := as("App-One-"+id, first), as("app-one-"+id, second)
	for _, tenant := range []string{first, second} {
		a := call(t, s, http.MethodGet, tenantPath(tenant, "dek"), lower, nil)
		assert.Equal(t, http.StatusForbidden, a.Status)
		if tenant == first {
			assert.Contains(t, a.errors(), "differs from its Vault identity's only in the case of letters")
		}
	}
	a := call(t, s, http.MethodPut, tenantPath(first, "secrets/x"), lower, map[string]any{"data": map[string]any{"value": "theirs"}})
	assert.Equal(t, http.StatusForbidden, a.Status)

	succeeded(t, call(t, s, http.MethodGet, tenantPath(first, "dek"), upper, nil))
	list := callRoot(t, s, "LIST", tenantPath(first, "secrets"), nil)
	assert.Equal(t, http.StatusNotFound, list.Status, "nothing was written: %s", list.Raw)
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
