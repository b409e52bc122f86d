// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

//go:build acceptance

package acceptance

import (
	"net/http"
	"slices"
	"testing"

	"github.com/google/uuid"
	"github.com/stretchr/testify/assert"
)

// TestPolicies goes through what each role may and may not do. What is allowed
// may well be refused by the engine for another reason; it is never 403.
func TestPolicies(t *testing.T) {
	s := shared(t)
	own, other := newTenant(t, s), newTenant(t, s)
	const rotation = "rot-00000000-0000-4000-8000-000000000000"
	tokens := map[string]string{
		"security_admin": login(t, s, own, "security_admin"),
		"super_admin":    login(t, s, "", "super_admin"),
		"key_admin":      login(t, s, "", "key_admin"),
		"no role":        login(t, s, own),
		"no tenant":      login(t, s, "", "security_admin"),
	}
	security, super, key := "security_admin", "super_admin", "key_admin"
	for _, c := range []struct {
		method, path string
		allowed      []string
	}{
		{"GET", "dek/key/rotationSettings", []string{super, key}},
		{"PUT", "dek/key/rotationSettings", []string{super, key}},
		{"PATCH", "dek/key/rotationSettings", []string{super, key}},
		{"GET", "dek/config", []string{super}},
		{"PUT", "dek/config", []string{super}},
		{"GET", "dek/status", []string{super}},
		{"LIST", "dek/rotations", []string{super}},
		{"PUT", "dek/rotations", []string{super}},
		{"LIST", "dek/tenants", []string{super}},
		{"PUT", "dek/tenants/not-a-uuid", []string{super}},
		{"DELETE", "dek/tenants/not-a-uuid", []string{super}},
		{"PUT", "dek/tenants/not-a-uuid/restore", []string{super}},

		{"GET", "dek/tenants/" + own, []string{super, security}},
		{"GET", "dek/tenants/" + own + "/dek", []string{super, security}},
		{"PUT", "dek/tenants/" + own + "/dek/rotate", []string{super, security}},
		{"LIST", "dek/tenants/" + own + "/dek/rotations", []string{super, security}},
		{"GET", "dek/tenants/" + own + "/dek/rotations/" + rotation, []string{super, security}},
		{"PUT", "dek/tenants/" + own + "/dek/rotations/" + rotation + "/pause", []string{super, security}},
		{"PUT", "dek/tenants/" + own + "/dek/rotations/" + rotation + "/resume", []string{super, security}},
		{"PUT", "dek/tenants/" + own + "/dek/rotations/" + rotation + "/cancel", []string{super, security}},
		{"PUT", "dek/tenants/" + own + "/dek/rotations/" + rotation + "/retry", []string{super, security}},
		{"PUT", "dek/tenants/" + own + "/dek/config", []string{super}},
		{"PUT", "dek/tenants/" + own + "/dek/versions/1/destroy", []string{super}},
		{"PUT", "dek/tenants/" + own, []string{super}},

		{"GET", "dek/tenants/" + other, []string{super}},
		{"GET", "dek/tenants/" + other + "/dek", []string{super}},
		{"PUT", "dek/tenants/" + other + "/dek/rotate", []string{super}},
		{"LIST", "dek/tenants/" + other + "/dek/rotations", []string{super}},

		// Items and what is encrypted belong to the policies of applications.
		{"LIST", "dek/tenants/" + own + "/secrets", nil},
		{"GET", "dek/tenants/" + own + "/secrets/name", nil},
		{"PUT", "dek/tenants/" + own + "/secrets/name", nil},
		{"PATCH", "dek/tenants/" + own + "/credentials/name", nil},
		{"DELETE", "dek/tenants/" + own + "/apiKeys/name", nil},
		{"PUT", "dek/tenants/" + own + "/items", nil},
		{"PUT", "dek/tenants/" + own + "/encrypt", nil},
		{"PUT", "dek/tenants/" + own + "/decrypt", nil},
		{"PUT", "dek/tenants/" + own + "/rewrap", nil},
		{"PUT", "dek/tenants/" + own + "/datakey/plaintext", nil},
	} {
		for who, token := range tokens {
			t.Run(who+" "+c.method+" "+c.path, func(t *testing.T) {
				a := call(t, s, c.method, c.path, token, map[string]any{})
				if slices.Contains(c.allowed, who) {
					assert.NotEqual(t, http.StatusForbidden, a.Status, a.errors())
					assert.Less(t, a.Status, 500, a.errors())
				} else {
					assert.Equal(t, http.StatusForbidden, a.Status)
				}
			})
		}
	}
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
			a := call(t, s, http.MethodGet, "dek/tenants/"+tenant, login(t, s, tenant, roles...), nil)
			assert.Equal(t, http.StatusForbidden, a.Status)
		})
	}
	t.Run("several", func(t *testing.T) {
		token := login(t, s, tenant, "security_admin", "key_admin")
		a := call(t, s, http.MethodGet, "dek/tenants/"+tenant, token, nil)
		assert.Equal(t, http.StatusOK, a.Status)
		a = call(t, s, http.MethodGet, "dek/key/rotationSettings", token, nil)
		assert.Equal(t, http.StatusOK, a.Status)
		a = call(t, s, http.MethodGet, "dek/tenants/"+uuid.NewString(), token, nil)
		assert.Equal(t, http.StatusForbidden, a.Status)
	})
}
