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

// The roles of bootstrap/policies.
const (
	securityAdmin = "security_admin"
	superAdmin    = "super_admin"
	keyAdmin      = "key_admin"
	application   = "application"
	auditor       = "auditor"

	// noTenant has the roles that are bound to a tenant, and none.
	noTenant = "no tenant"
)

var allRoles = []string{securityAdmin, superAdmin, keyAdmin, application, auditor}

// permission says who may use an operation of a path. For security_admin and
// application it holds for their own tenant only.
type permission struct {
	path, operation string
	roles           []string
}

// permissions has every path of the engine with every operation, as Vault
// describes them. What is not here, nobody may.
var permissions = []permission{
	{"config", "read", []string{superAdmin, auditor}},
	{"config", "update", []string{superAdmin}},
	{"key/rotationSettings", "read", []string{superAdmin, keyAdmin, auditor}},
	{"key/rotationSettings", "update", []string{superAdmin, keyAdmin}},
	{"key/rotationSettings", "patch", []string{superAdmin, keyAdmin}},
	{"status", "read", []string{superAdmin, auditor}},
	{"kek", "read", []string{superAdmin, keyAdmin, auditor}},
	{"kek/rotate", "update", []string{superAdmin, keyAdmin}},
	{"rotations", "list", []string{superAdmin, auditor}},
	{"rotations", "update", []string{superAdmin}},

	{"tenants", "list", []string{superAdmin, auditor}},
	{"tenants/{tenant_id}", "read", []string{superAdmin, auditor}},
	{"tenants/{tenant_id}", "update", []string{superAdmin}},
	{"tenants/{tenant_id}", "delete", []string{superAdmin}},
	{"tenants/{tenant_id}/restore", "update", []string{superAdmin}},

	{"tenants/{tenant_id}/dek", "read", []string{superAdmin, securityAdmin, auditor}},
	{"tenants/{tenant_id}/dek/config", "update", []string{superAdmin}},
	{"tenants/{tenant_id}/dek/rotate", "update", []string{superAdmin, securityAdmin}},
	{"tenants/{tenant_id}/dek/import", "update", []string{superAdmin, securityAdmin}},
	{"wrapping_key", "read", []string{superAdmin, securityAdmin, noTenant}}, // a public key, of no tenant
	{"tenants/{tenant_id}/dek/rotations", "list", []string{superAdmin, securityAdmin, auditor}},
	{"tenants/{tenant_id}/dek/rotations/{rotation_id}", "read", []string{superAdmin, securityAdmin, auditor}},
	{"tenants/{tenant_id}/dek/rotations/{rotation_id}/{action}", "update", []string{superAdmin, securityAdmin}},
	{"tenants/{tenant_id}/dek/versions/{version}/destroy", "update", []string{superAdmin}},

	{"tenants/{tenant_id}/{kind}", "list", []string{application}},
	{"tenants/{tenant_id}/{kind}/{name}", "read", []string{application}},
	{"tenants/{tenant_id}/{kind}/{name}", "update", []string{application}},
	{"tenants/{tenant_id}/{kind}/{name}", "patch", []string{application}},
	{"tenants/{tenant_id}/{kind}/{name}", "delete", []string{application}},
	{"tenants/{tenant_id}/items", "update", []string{application}},
	{"tenants/{tenant_id}/encrypt", "update", []string{application}},
	{"tenants/{tenant_id}/decrypt", "update", []string{application}},
	{"tenants/{tenant_id}/rewrap", "update", []string{application}},
	{"tenants/{tenant_id}/datakey/plaintext", "update", []string{application}},
	{"tenants/{tenant_id}/datakey/wrapped", "update", []string{application}},
}

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

// TestPoliciesKnowEveryPath fails for a path or an operation that the engine has
// and the table does not, and the other way round.
func TestPoliciesKnowEveryPath(t *testing.T) {
	var known []string
	for _, p := range permissions {
		known = append(known, p.operation+" "+p.path)
	}
	assert.ElementsMatch(t, describedOperations(t, shared(t)), known)
}

// describedOperations is what Vault's OpenAPI document has of the engine, as
// "read config".
func describedOperations(t *testing.T, s *devstack.Stack) []string {
	t.Helper()
	a := callRoot(t, s, http.MethodGet, "sys/internal/specs/openapi", nil)
	require.Equal(t, http.StatusOK, a.Status)
	paths, _ := a.Body["paths"].(map[string]any)
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
			found = append(found, operation+" "+strings.TrimSuffix(below, "/"))
		}
	}
	return found
}

// TestPolicies goes through every path with every operation, the engine's and
// those it does not have, as everybody there is. What is allowed may well be
// refused by the engine for another reason, and here it is: nothing changes.
func TestPolicies(t *testing.T) {
	s := shared(t)
	own, other := newTenant(t, s), newTenant(t, s)
	people := map[string]string{ // by role, or why there is none
		securityAdmin: login(t, s, own, securityAdmin), application: login(t, s, own, application),
		superAdmin: login(t, s, "", superAdmin), keyAdmin: login(t, s, "", keyAdmin), auditor: login(t, s, "", auditor),
		"no role": login(t, s, own), noTenant: login(t, s, "", securityAdmin, application),
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
				bound := who == securityAdmin || who == application
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
