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

// publicError requires the error object of /public/ and /saas/.
func publicError(t *testing.T, a answer, status int) {
	t.Helper()
	require.Equal(t, status, a.Status, "%v", a.Body["error"]) // no more of it: there may be a session in it
	assert.Equal(t, []string{"error"}, names(a.Body))
	object, ok := a.Body["error"].(map[string]any)
	require.True(t, ok)
	assert.ElementsMatch(t, []string{"code", "message", "requestId", "details"}, names(object))
	assert.NotEmpty(t, object["code"])
	assert.NotEmpty(t, object["message"])
	assert.NotEmpty(t, object["requestId"])
	assert.Equal(t, a.Header.Get("X-Request-Id"), object["requestId"])
}

var settingsPaths = []string{"/public/core/v3/key/rotationSettings", "/saas/public/core/v3/key/rotationSettings"}

// keepSettings puts the interval back that the test found.
func keepSettings(t *testing.T, s *devstack.Stack) {
	t.Helper()
	before := succeeded(t, callRoot(t, s, http.MethodGet, "dek/key/rotationSettings", nil))["rotation_interval"]
	t.Cleanup(func() {
		_, err := s.Client().Logical().Write("dek/key/rotationSettings", map[string]any{"rotation_interval": before})
		assert.NoError(t, err)
	})
}

func TestContractProxySettings(t *testing.T) {
	s := shared(t)
	keepSettings(t, s)
	documented := decoded(t, documentedSettings)
	org := succeeded(t, callRoot(t, s, http.MethodGet, "dek/config", nil))["org_id"]
	settings := func(interval any) map[string]any {
		return map[string]any{"orgId": org, "validRotationIntervals": documented["validRotationIntervals"], "rotationInterval": interval}
	}
	for who, session := range map[string]string{
		"key_admin by JWT":           mint(t, s, "", "key_admin"),
		"key_admin by Vault token":   login(t, s, "", "key_admin"),
		"super_admin by JWT":         mint(t, s, "", "super_admin"),
		"super_admin by Vault token": login(t, s, "", "super_admin"),
	} {
		for _, path := range settingsPaths {
			t.Run(who+" "+path, func(t *testing.T) {
				current := callProxy(t, s, http.MethodGet, path, nil, "INFA-SESSION-ID", session)
				require.Equal(t, http.StatusOK, current.Status, "%s", current.Raw)
				sameShape(t, "answer", documented, current.Body)
				for i, method := range []string{http.MethodPatch, http.MethodPost} {
					interval := []string{"120_DAYS", "365_DAYS"}[i]
					a := callProxy(t, s, method, path, map[string]string{"rotationInterval": interval, "unknown": "x"},
						"Content-Type", "application/json", "Accept", "application/json", "INFA-SESSION-ID", session)
					require.Equal(t, http.StatusOK, a.Status, "%s", a.Raw)
					assert.Equal(t, settings(interval), a.Body)
					a = callProxy(t, s, http.MethodGet, path, nil, "INFA-SESSION-ID", session)
					assert.Equal(t, settings(interval), a.Body)
				}
			})
		}
	}
}

func TestContractProxySettingsRefused(t *testing.T) {
	s := shared(t)
	tenant := newTenant(t, s)
	before := succeeded(t, callRoot(t, s, http.MethodGet, "dek/key/rotationSettings", nil))
	good := map[string]string{"rotationInterval": "120_DAYS"}
	jwt := mint(t, s, tenant, "key_admin")
	everywhere := func(t *testing.T, status int, body any, headers ...string) {
		t.Helper()
		for _, path := range settingsPaths {
			for _, method := range []string{http.MethodGet, http.MethodPatch, http.MethodPost} {
				if method == http.MethodGet && status == http.StatusBadRequest {
					continue
				}
				publicError(t, callProxy(t, s, method, path, body, headers...), status)
			}
		}
	}
	content := []string{"Content-Type", "application/json"}
	with := func(session string) []string { return append(content[:2:2], "INFA-SESSION-ID", session) }

	t.Run("401", func(t *testing.T) {
		for name, bad := range badJWTs(t, s, jwt) {
			t.Run(name, func(t *testing.T) { everywhere(t, http.StatusUnauthorized, good, with(bad)...) })
		}
		everywhere(t, http.StatusUnauthorized, good, content...)
		everywhere(t, http.StatusUnauthorized, good, append(content[:2:2], "Authorization", "Bearer "+jwt)...)
		everywhere(t, http.StatusUnauthorized, good, with("")...)
		everywhere(t, http.StatusUnauthorized, good, with("hvs.unknownunknownunknownunkn")...)
		everywhere(t, http.StatusUnauthorized, good, with("with space")...)
		t.Run("before the body", func(t *testing.T) {
			everywhere(t, http.StatusUnauthorized, "no JSON", "INFA-SESSION-ID", "hvs.unknownunknownunknownunkn")
		})
	})
	t.Run("400", func(t *testing.T) {
		for who, session := range map[string]string{"JWT": jwt, "Vault token": login(t, s, "", "key_admin"), "no role": mint(t, s, tenant)} {
			t.Run(who, func(t *testing.T) {
				everywhere(t, http.StatusBadRequest, good, "INFA-SESSION-ID", session)
				everywhere(t, http.StatusBadRequest, good, "INFA-SESSION-ID", session, "Content-Type", "text/plain")
				for _, body := range []string{
					``, `x`, `[]`, `null`, `{}`, `{"rotationInterval": "91_DAYS"}`, `{"rotationInterval": 120}`, `{"rotationInterval": null}`,
					`{"rotationInterval": ""}`, `{"rotation_interval": "120_DAYS"}`, `{"rotationInterval": "120_DAYS"} x`,
				} {
					everywhere(t, http.StatusBadRequest, body, with(session)...)
				}
			})
		}
	})
	t.Run("403", func(t *testing.T) {
		for who, session := range map[string]string{
			"security_admin by JWT": mint(t, s, tenant, "security_admin"), "no role by JWT": mint(t, s, tenant),
			"security_admin by Vault token": login(t, s, tenant, "security_admin"), "no role by Vault token": login(t, s, tenant),
		} {
			t.Run(who, func(t *testing.T) { everywhere(t, http.StatusForbidden, good, with(session)...) })
		}
	})
	t.Run("413", func(t *testing.T) {
		body := `{"rotationInterval": "120_DAYS", "more": "` + text(1<<20) + `"}`
		publicError(t, callProxy(t, s, http.MethodPatch, settingsPaths[0], body, with(jwt)...), http.StatusRequestEntityTooLarge)
	})
	assert.Equal(t, before, succeeded(t, callRoot(t, s, http.MethodGet, "dek/key/rotationSettings", nil)))
}

// TestContractProxyLogin logs in with a password, and uses the session.
func TestContractProxyLogin(t *testing.T) {
	s := shared(t)
	a := callRoot(t, s, http.MethodPost, "sys/auth/userpass", map[string]string{"type": "userpass"})
	require.Equal(t, http.StatusNoContent, a.Status, a.errors())
	t.Cleanup(func() { assert.NoError(t, s.Client().Sys().DisableAuth("userpass")) })
	a = callRoot(t, s, http.MethodPost, "auth/userpass/users/keys", map[string]any{"password": "right", "token_policies": "key_admin"})
	require.Equal(t, http.StatusNoContent, a.Status, a.errors())

	for _, path := range []string{"/public/core/v3/login", "/saas/public/core/v3/login"} {
		t.Run(path, func(t *testing.T) {
			post := func(body any) answer {
				return callProxy(t, s, http.MethodPost, path, body, "Content-Type", "application/json")
			}
			a := post(map[string]string{"username": "keys", "password": "right"})
			require.Equal(t, http.StatusOK, a.Status)
			products, _ := a.Body["products"].([]any)
			require.Len(t, products, 1)
			product := products[0].(map[string]any)
			fields{"name": isText, "baseApiUrl": isText}.check(t, product)
			user, _ := a.Body["userInfo"].(map[string]any)
			fields{
				"sessionId": isText, "id": isText, "name": is("keys"), "parentOrgId": isText,
				"orgId": isText, "orgName": isText, "groups": isList, "status": isText,
			}.check(t, user)

			base := product["baseApiUrl"].(string)
			settings := send(t, http.MethodGet, base+"/public/core/v3/key/rotationSettings",
				http.Header{"Infa-Session-Id": {user["sessionId"].(string)}}, nil)
			assert.Equal(t, http.StatusOK, settings.Status, "the session works at the address that came with it")

			publicError(t, post(map[string]string{"username": "keys", "password": "wrong"}), http.StatusUnauthorized)
			publicError(t, post(map[string]string{"username": "nobody", "password": "right"}), http.StatusUnauthorized)
			publicError(t, post(map[string]string{"username": "../users/keys", "password": "right"}), http.StatusUnauthorized)
			for _, body := range []any{``, `[]`, map[string]any{"username": "keys"}, map[string]any{"password": "right"}, map[string]any{"username": 1, "password": 2}} {
				publicError(t, post(body), http.StatusBadRequest)
			}
		})
	}
}
