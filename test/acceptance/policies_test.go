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

// vaultOperations are the kinds there are, each with its HTTP method.
var vaultOperations = map[string]string{
	"read": http.MethodGet, "list": "LIST", "update": http.MethodPut, "patch": http.MethodPatch, "delete": http.MethodDelete,
}

// mayUse lists who may use an operation of a path of their own tenant.
func mayUse(path, operation string) []string {
	for _, p := range permissions {
		if p.path == path && p.operation == operation {
			return p.roles
		}
	}
	return nil
}

// servedByContract are paths of the contract that an engine may not serve yet. A
// rule for a path that is not there opens nothing.
var servedByContract = []string{}

// isToCome reports whether a path is the contract's and the engine may not serve it
// yet.
func isToCome(path string) bool {
	return slices.ContainsFunc(servedByContract, func(prefix string) bool {
		return path == prefix || strings.HasSuffix(prefix, "/") && strings.HasPrefix(path, prefix)
	})
}

// served are the permissions for what the engine serves.
func served() (all []permission) {
	for _, p := range permissions {
		if !isToCome(p.path) {
			all = append(all, p)
		}
	}
	return all
}

// TestPoliciesKnowEveryPath fails for a path or an operation that the engine has
// and the table does not. The other way round it fails for one that the engine
// does not have, and is not the contract's to come.
func TestPoliciesKnowEveryPath(t *testing.T) {
	a := callRoot(t, shared(t), http.MethodGet, "sys/internal/specs/openapi", nil)
	require.Equal(t, http.StatusOK, a.Status)
	described, noPatch := describedOperations(a.Body), withoutPatch(a.Body)
	require.NotEmpty(t, described)
	known := map[string]bool{}
	for _, p := range permissions {
		operation := p.operation + " " + p.path
		assert.False(t, known[operation], "%s is there twice", operation)
		known[operation] = true
		if !isToCome(p.path) && (p.operation != "patch" || !noPatch) {
			assert.Contains(t, described, operation)
		}
	}
	for _, operation := range described {
		assert.True(t, known[operation], "%s is not in the table", operation)
	}
}

// describedOperations is what an OpenAPI document of Vault's has of the engine, as
// "read config".
func describedOperations(served map[string]any) []string {
	paths, _ := served["paths"].(map[string]any)
	byMethod := map[string]string{"get": "read", "post": "update", "patch": "patch", "delete": "delete"}
	var found []string
	for path, described := range paths {
		below, ours := strings.CutPrefix(path, "/dek/")
		if !ours {
			continue
		}
		for method, object := range described.(map[string]any) {
			operation, ok := byMethod[method]
			if !ok {
				continue // not an operation, but what they share
			}
			// A list is a GET with the parameter list=true.
			if strings.Contains(fmt.Sprint(object), "name:list required:true") {
				operation = "list"
			}
			found = append(found, operation+" "+sameNames.Replace(strings.TrimSuffix(below, "/")))
		}
	}
	return found
}

// sameNames gives parts of paths the names that the table has for them, whatever
// the engine calls them.
var sameNames = strings.NewReplacer(
	"holders/{name}", "holders/{holder}", "providers/{name}", "providers/{provider}", "tile/{path}", "tile/{tile}",
)

// TestPolicies goes through every path with every operation, the engine's and
// those it does not have, as everybody there is. What is allowed may well be
// refused by the engine for another reason, and here it is: nothing changes.
func TestPolicies(t *testing.T) {
	s := shared(t)
	own, other := newTenant(t, s), newTenant(t, s)
	people := map[string]string{ // by role, or why there is none
		"no role": login(t, s, own), noTenant: login(t, s, "", boundRoles...),
	}
	for _, role := range allRoles {
		tenant := ""
		if slices.Contains(boundRoles, role) {
			tenant = own
		}
		people[role] = login(t, s, tenant, role)
	}
	state := func() []any {
		var all []any
		for _, path := range []string{tenantPath(own), tenantPath(other), tenantPath(own, "dek"), tenantPath(other, "dek"), "dek/key/rotationSettings"} {
			all = append(all, succeeded(t, callRoot(t, s, http.MethodGet, path, nil)))
		}
		return all
	}
	before := state()
	seen := map[string]bool{}
	for _, p := range permissions {
		if seen[p.path] {
			continue
		}
		seen[p.path] = true
		for operation := range vaultOperations {
			for who, token := range people {
				allowed := slices.Contains(mayUse(p.path, operation), who)
				for _, path := range examples(p.path, own) {
					probe(t, s, operation, path, who, token, allowed)
				}
				if !strings.Contains(p.path, "{tenant_id}") {
					continue
				}
				bound := slices.Contains(boundRoles, who)
				for _, path := range examples(p.path, other) {
					probe(t, s, operation, path, who, token, allowed && !bound)
				}
			}
		}
	}
	assert.Equal(t, before, state(), "nothing has changed")
}

// examples are paths of that form, of a tenant.
func examples(form, tenant string) []string {
	paths := []string{"dek/" + form}
	for field, values := range map[string][]string{
		"{tenant_id}":   {tenant},
		"{kind}":        {"credentials", "apiKeys", "secrets"},
		"{name}":        {"a", "dek/rotate"},
		"{rotation_id}": {"rot-00000000-0000-4000-8000-000000000000"},
		"{action}":      {"pause", "resume", "cancel", "retry"},
		"{version}":     {"1"},
		"{holder}":      {"orders"},
		"{provider}":    {"none"},
		"{person}":      {"none"},
		"{index}":       {"0"},
		"{tile}":        {"0/000", "entries/x001/067.p/3"},
	} {
		if !strings.Contains(form, field) {
			continue
		}
		var filled []string
		for _, path := range paths {
			for _, value := range values {
				filled = append(filled, strings.ReplaceAll(path, field, value))
			}
		}
		paths = filled
	}
	return paths
}

// probe sends a request which the engine refuses, or which changes nothing, and
// checks whether Vault's policies let it through.
func probe(t *testing.T, s *devstack.Stack, operation, path, who, token string, allowed bool) {
	t.Helper()
	if operation == "delete" {
		path += "?deletion_window=none&cas=none"
	}
	a := call(t, s, vaultOperations[operation], path, token, map[string]any{
		"key_type": "none", "bits": 1, "cas": "none", "idempotency_key": []string{"none"},
	})
	if !allowed {
		assert.Equal(t, http.StatusForbidden, a.Status, "%s: %s %s", who, operation, path)
		return
	}
	assert.NotEqual(t, http.StatusForbidden, a.Status, "%s: %s %s", who, operation, path)
	assert.Less(t, a.Status, 500, "%s: %s %s: %s", who, operation, path, a.errors())
}

// TestApplicationPolicy does for real what an application does.
func TestApplicationPolicy(t *testing.T) {
	s := shared(t)
	tenant := newTenant(t, s)
	token := login(t, s, tenant, application)
	works := func(method, path string, body any) answer {
		t.Helper()
		a := call(t, s, method, tenantPath(tenant, path), token, body)
		require.Less(t, a.Status, 300, "%s %s: %s", method, path, a.errors())
		return a
	}
	data := map[string]any{"data": map[string]any{"v": "1"}}
	for _, kind := range []string{"credentials", "apiKeys", "secrets"} {
		works(http.MethodPut, kind+"/a/b", data)
		works(http.MethodPatch, kind+"/a/b", data)
		works(http.MethodGet, kind+"/a/b", nil)
		assert.Equal(t, []string{"a/b"}, keys(t, works("LIST", kind, nil)))
		works(http.MethodDelete, kind+"/a/b", nil)
		works(http.MethodPut, "items", map[string]any{"items": []any{map[string]any{"kind": kind, "name": "c", "data": data}}})
		works(http.MethodGet, kind+"/c", nil)
	}
	face := func(method, part string, body any) {
		t.Helper()
		a := call(t, s, method, "dek/"+part, token, body)
		require.Less(t, a.Status, 300, "%s %s: %s", method, part, a.errors())
	}
	for _, kind := range []string{"credentials", "apiKeys", "secrets"} {
		name := tenant + "/" + kind + "/d/e"
		face(http.MethodPut, "data/"+name, data)
		face(http.MethodPatch, "data/"+name, data)
		face(http.MethodGet, "data/"+name, nil)
		face(http.MethodGet, "subkeys/"+name, nil)
		face(http.MethodPut, "metadata/"+name, map[string]any{"custom_metadata": map[string]any{"a": "1"}})
		face(http.MethodPatch, "metadata/"+name, map[string]any{"custom_metadata": map[string]any{"b": "1"}})
		face(http.MethodGet, "metadata/"+name, nil)
		face("LIST", "metadata/"+tenant+"/"+kind, nil)
		face("LIST", "metadata/"+tenant+"/"+kind+"/d/", nil)
		face(http.MethodPut, "undelete/"+name, map[string]any{"versions": []int{1}})
		face(http.MethodPut, "destroy/"+name, map[string]any{"versions": []int{1}})
		face(http.MethodPut, "delete/"+name, map[string]any{"versions": []int{2}})
		face(http.MethodDelete, "data/"+name, nil)
		face(http.MethodDelete, "metadata/"+name, nil)
	}
	sealed := works(http.MethodPut, "encrypt", map[string]any{"plaintext": "aGVsbG8="}).data()
	assert.Equal(t, "aGVsbG8=", works(http.MethodPut, "decrypt", sealed).data()["plaintext"])
	works(http.MethodPut, "rewrap", sealed)
	works(http.MethodPut, "datakey/wrapped", nil)
	works(http.MethodPut, "datakey/plaintext", nil)
}

// TestRolesComeFromTheClaim checks the exchange itself: who has no role logs in
// and may do nothing, who has a role that does not exist neither.
func TestRolesComeFromTheClaim(t *testing.T) {
	s := shared(t)
	tenant := newTenant(t, s)
	for name, roles := range map[string][]string{
		"none":    nil,
		"unknown": {"root", "admin", "security_admin "},
	} {
		t.Run(name, func(t *testing.T) {
			a := call(t, s, http.MethodGet, tenantPath(tenant, "dek"), login(t, s, tenant, roles...), nil)
			assert.Equal(t, http.StatusForbidden, a.Status)
		})
	}
	t.Run("several", func(t *testing.T) {
		token := login(t, s, tenant, securityAdmin, keyAdmin)
		a := call(t, s, http.MethodGet, tenantPath(tenant, "dek"), token, nil)
		assert.Equal(t, http.StatusOK, a.Status)
		a = call(t, s, http.MethodGet, "dek/key/rotationSettings", token, nil)
		assert.Equal(t, http.StatusOK, a.Status)
		a = call(t, s, http.MethodGet, tenantPath(uuid.NewString(), "dek"), token, nil)
		assert.Equal(t, http.StatusForbidden, a.Status)
	})
}
