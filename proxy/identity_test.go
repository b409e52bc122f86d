// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package proxy

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/vault-plugin-dek/vault-plugin-dek/proxy/vault"
	"github.com/vault-plugin-dek/vault-plugin-dek/proxy/vault/vaulttest"
)

const otherTenant = "00000000-0000-4000-8000-000000000002"

// as is the header of a caller with these claims.
func (s *stand) as(sub, tenant string, roles ...string) edit {
	claims := map[string]any{"sub": sub, "roles": roles, "exp": s.clock.now().Add(time.Hour).Unix()}
	if tenant != "" {
		claims["tenant_id"] = tenant
	}
	return header("Authorization", "Bearer "+jwt(claims))
}

// TestTwoUsersOfOneEntity: Vault takes two users whose names differ in case for one,
// and the first one's tenant for both's.
func TestTwoUsersOfOneEntity(t *testing.T) {
	s := newStand(t)
	first, second := s.as("App-One", tenantID), s.as("app-one", otherTenant)
	require.Equal(t, 200, s.rotate(first).Code)
	requireAdminError(t, s.rotate(second), 401, "UNAUTHORIZED")
	require.Len(t, s.vault.Seen(vaulttest.AtRotate), 1, "the second one's token is used for nothing")
	require.Equal(t, 200, s.rotate(first).Code)
	require.Len(t, s.vault.Seen(vaulttest.AtLogin), 3, "the second login has changed the entity, so the first is made anew")
	requireAdminError(t, s.rotate(s.as("APP-ONE", tenantID)), 401, "UNAUTHORIZED")
}

// TestOneSubjectInTwoTenants: the session that is not the last is not used again.
func TestOneSubjectInTwoTenants(t *testing.T) {
	s := newStand(t)
	first, second := s.as("u", tenantID), s.as("u", otherTenant)
	require.Equal(t, 200, s.rotate(first).Code)
	require.Equal(t, 200, s.rotate(second).Code)
	require.Equal(t, 200, s.rotate(first).Code)
	calls := s.vault.Seen(vaulttest.AtRotate)
	require.Equal(t, []string{"hvs.login-1", "hvs.login-2", "hvs.login-3"}, []string{calls[0].Token, calls[1].Token, calls[2].Token})
	require.Equal(t, 200, s.rotate(s.as("u", tenantID, "auditor")).Code)
	require.Equal(t, 200, s.rotate(first).Code)
	require.Len(t, s.vault.Seen(vaulttest.AtLogin), 5, "roles count as well: the groups are those of the last login")
}

// asRoles is the header of a caller with this roles claim.
func (s *stand) asRoles(roles any) edit {
	return header("Authorization", "Bearer "+jwt(map[string]any{
		"sub": "u", "tenant_id": tenantID, "roles": roles, "exp": s.clock.now().Add(time.Hour).Unix(),
	}))
}

// TestRolesAreAStringOrAList: Vault takes one string for a list of it, so a login with
// it changes the groups of a session without roles, and another spelling of a role in it
// is that role.
func TestRolesAreAStringOrAList(t *testing.T) {
	s := newStand(t)
	none := s.asRoles([]string{})
	require.Equal(t, 200, s.rotate(none).Code)
	require.Equal(t, 200, s.rotate(s.asRoles("super_admin")).Code)
	require.Equal(t, 200, s.rotate(none).Code)
	require.Len(t, s.vault.Seen(vaulttest.AtLogin), 3, "the session without roles is not used with super_admin's groups")
	require.Equal(t, 200, s.rotate(s.asRoles([]string{""})).Code)
	require.Equal(t, 200, s.rotate(none).Code)
	require.Len(t, s.vault.Seen(vaulttest.AtLogin), 4, "an empty role is none")
	require.Equal(t, 200, s.rotate(s.asRoles(nil)).Code, "whether the claim may be missing is Vault's to say")
	for _, roles := range []any{
		"Auditor", "SUPER_ADMIN", "super_adm\u0130n",
		[]any{"auditor", "Auditor"},
		[]any{1, "Auditor"},
		[]any{"auditor", 1},
		[]any{nil},
		[]any{[]any{"auditor"}},
		true, false, 0, 1.5,
		map[string]any{},
		map[string]any{"auditor": true},
	} {
		requireAdminError(t, s.rotate(s.asRoles(roles)), 401, "UNAUTHORIZED")
	}
	require.Len(t, s.vault.Seen(vaulttest.AtLogin), 5, "Vault is not asked about what is no list of roles")
}

func TestVaultMustKnowTheCaller(t *testing.T) {
	alias := func(changes map[string]any) http.HandlerFunc {
		a := map[string]any{"name": "u", "mount_path": "auth/jwt/", "metadata": map[string]any{"tenant_id": tenantID}}
		for k, v := range changes {
			a[k] = v
		}
		raw, err := json.Marshal(map[string]any{"data": map[string]any{"aliases": []any{a}}})
		require.NoError(t, err)
		return vaulttest.Reply(200, string(raw))
	}
	for name, tc := range map[string]struct {
		answer http.HandlerFunc
		status int
	}{
		"as the JWT says":          {alias(nil), 200},
		"in a namespace":           {alias(map[string]any{"mount_path": "ns1/auth/jwt/"}), 200},
		"another name":             {alias(map[string]any{"name": "U"}), 401},
		"another tenant":           {alias(map[string]any{"metadata": map[string]any{"tenant_id": otherTenant}}), 401},
		"no tenant":                {alias(map[string]any{"metadata": nil}), 401},
		"another mount":            {alias(map[string]any{"mount_path": "auth/jwt2/"}), 401},
		"no alias":                 {vaulttest.Reply(200, `{"data": {"aliases": []}}`), 401},
		"no entity":                {vaulttest.Reply(404, `{"errors": []}`), 401},
		"it may not be read":       {vaulttest.Reply(403, vaulttest.Denied), 401},
		"nonsense":                 {vaulttest.Reply(200, `<html>`), 500},
		"sealed meanwhile":         {vaulttest.Reply(503, `{"errors":["Vault is sealed"]}`), 503},
		"too much at once":         {vaulttest.Reply(429, `{"errors":[]}`), 429},
		"the connection is lost":   {vaulttest.HangUp, 503},
		"a fault of Vault's":       {vaulttest.Reply(500, `{"errors":["x"]}`), 503},
		"a tenant of nobody's JWT": {alias(map[string]any{"metadata": map[string]any{"tenant_id": strings.ToUpper(tenantID)}}), 401},
	} {
		t.Run(name, func(t *testing.T) {
			s := newStand(t)
			s.vault.On(vaulttest.AtEntity, tc.answer)
			w := s.rotate(s.as("u", tenantID))
			require.Equal(t, tc.status, w.Code, w.Body.String())
			if tc.status != 200 {
				require.Empty(t, s.vault.Seen(vaulttest.AtRotate))
			}
		})
	}
	s := newStand(t)
	require.Equal(t, 200, s.rotate(s.as("of no tenant", "")).Code)
	require.Equal(t, "hvs.login-1", s.vault.Seen(vaulttest.AtEntity)[0].Token, "with the caller's own token")
	s.vault.On(vaulttest.AtEntity, alias(nil))
	requireAdminError(t, s.rotate(s.as("u", "")), 401, "UNAUTHORIZED")
}

func TestUserClaimCanBeChosen(t *testing.T) {
	s := newStand(t)
	require.NoError(t, s.SetRealms(map[string]Realm{DefaultRealm: {Vault: testClient(t, s.vault, vault.Config{}), UserClaim: "email"}}))
	requireAdminError(t, s.rotate(s.as("u", tenantID)), 401, "UNAUTHORIZED")
}

func TestRolesInAnotherSpelling(t *testing.T) {
	s := newStand(t)
	// The last ones have a dotted I, a long s and a Kelvin sign.
	for _, role := range []string{"Auditor", "SUPER_ADMIN", "super_adm\u0130n", "\u017fuper_admin", "\u212aey_admin"} {
		requireAdminError(t, s.rotate(s.as("u", tenantID, "other", role)), 401, "UNAUTHORIZED")
	}
	require.Empty(t, s.vault.Calls())
	require.Equal(t, 200, s.rotate(s.as("u", tenantID, "auditor", "super_admin", "Other")).Code)
	require.NoError(t, s.SetRealms(map[string]Realm{DefaultRealm: {Vault: testClient(t, s.vault, vault.Config{}), RolePrefix: "Dek-"}}))
	require.Equal(t, 200, s.rotate(s.as("v", tenantID, "Dek-auditor", "Auditor")).Code)
	requireAdminError(t, s.rotate(s.as("v", tenantID, "dek-auditor")), 401, "UNAUTHORIZED")
}

// TestRealmsShareEntities: realms of one Vault with login roles of their own have the
// same entities, so a login in one tells on a session in the other.
func TestRealmsShareEntities(t *testing.T) {
	s := newStand(t)
	require.NoError(t, s.SetRealms(map[string]Realm{
		"default": {Vault: testClient(t, s.vault, vault.Config{})},
		"staff":   {Vault: testClient(t, s.vault, vault.Config{Role: "dek-security_admin"})},
	}))
	first, second := s.as("u", tenantID), s.as("u", otherTenant)
	require.Equal(t, 200, s.rotate(first).Code)
	require.Equal(t, 200, s.rotate(second, header("realmname", "staff")).Code)
	require.Equal(t, 200, s.rotate(first).Code)
	require.Len(t, s.vault.Seen(vaulttest.AtLogin), 3)
}

// TestOpenBaoDoesNotKnowTheToken: a forgotten token is dropped and replaced, and a
// refusal that is bare with a token issued just now is the policies'.
func TestOpenBaoDoesNotKnowTheToken(t *testing.T) {
	s := newStand(t)
	require.Equal(t, 200, s.rotate().Code)
	s.vault.On(vaulttest.AtRotate, func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("X-Vault-Token") == "hvs.login-1" {
			vaulttest.Reply(403, vaulttest.BareDenial)(w, r)
			return
		}
		vaulttest.Reply(200, vaulttest.RotationData)(w, r)
	})
	require.Equal(t, 200, s.rotate().Code)
	require.Len(t, s.vault.Seen(vaulttest.AtLogin), 2)
	s.vault.On(vaulttest.AtRotate, vaulttest.Reply(403, vaulttest.BareDenial))
	requireAdminError(t, s.rotate(), 403, "FORBIDDEN")
	s.vault.On(vaulttest.AtSettings, vaulttest.Reply(403, vaulttest.BareDenial))
	requirePublicError(t, s.do("GET", settingsPath, header("INFA-SESSION-ID", "hvs.known")), 403, "FORBIDDEN")
}
