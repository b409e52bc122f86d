// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

//go:build acceptance

package acceptance

import (
	"crypto/rand"
	"strings"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/vault-plugin-dek/vault-plugin-dek/internal/devstack"
)

// people log in, at Vault and at the proxy, and are refused.
func (l *leaks) people(tenant string) {
	jwt := func(roles ...string) string {
		token, err := l.s.MintJWT(devstack.Claims{
			Subject: l.mark("sub"), Name: l.mark("person's name"), Email: l.mark("email") + "@example.com", TenantID: tenant, Roles: roles,
		})
		require.NoError(l.t, err)
		l.markers[token] = "JWT"
		for _, part := range strings.Split(token, ".")[1:] {
			l.markers[part] = "JWT"
		}
		return token
	}
	token, err := l.s.Login(l.t.Context(), jwt("security_admin"))
	require.NoError(l.t, err)
	l.markers[token] = "token"
	l.want(403, l.vaultAs(token, "PUT", tenantPath(tenant, "secrets", l.mark("name")), l.item()))
	l.want(403, l.vaultAs(l.mark("token"), "GET", tenantPath(tenant), nil))
	l.want(400, l.vaultAs("", "PUT", "auth/jwt/login", map[string]any{"role": "dek", "jwt": jwt("key_admin") + "x"}))

	post := func(jwt, header, body string) answer {
		return l.proxy("POST", rotatePath, body, rotateHeaders(jwt, header)...)
	}
	good := `{"tenantId": "` + tenant + `"}`
	id := l.want(200, post(jwt("security_admin"), tenant, good)).data()["rotationId"].(string)
	waitRotation(l.t, l.s, tenant, id, "completed")
	l.want(401, post(jwt("security_admin")+"x", tenant, good))
	l.want(401, post(l.mark("JWT"), tenant, good))
	l.want(403, post(jwt(), tenant, good))
	l.want(400, post(jwt("security_admin"), l.mark("header"), good))
	l.want(400, post(jwt("security_admin"), tenant, `{"tenantId": "`+l.mark("value")+`"}`))
	l.want(400, post(jwt("security_admin"), tenant, `{"tenantId": "`+l.mark("value")))
	l.want(413, post(jwt("security_admin"), tenant, `{"tenantId": "`+strings.Repeat(l.mark("value"), 50_000)+`"}`))
	l.want(404, l.proxy("GET", "/api/"+l.mark("name"), nil))
	for _, session := range []string{jwt("key_admin"), token, l.mark("token"), "hvs." + l.mark("token")} {
		l.proxy("GET", settingsPaths[0], nil, "INFA-SESSION-ID", session)
		body := `{"rotationInterval": "` + l.mark("value") + `"}`
		a := l.proxy("PATCH", settingsPaths[1], body, "INFA-SESSION-ID", session, "Content-Type", "application/json")
		assert.Contains(l.t, []int{400, 401, 403}, a.Status)
	}
	l.proxy("PUT", settingsPaths[0]+"?x="+l.mark("value"), nil)
	l.passwords()
}

func (l *leaks) passwords() {
	name, password := strings.ToLower(rand.Text()), l.mark("password") // Vault lower-cases usernames
	l.markers[name] = "username"
	l.want(204, l.vault("POST", "sys/auth/userpass", map[string]any{"type": "userpass"}))
	l.want(204, l.vault("PUT", "auth/userpass/users/"+name, map[string]any{"password": password, "token_policies": "key_admin"}))
	a := l.want(200, l.logIn(name, password))
	user, _ := a.Body["userInfo"].(map[string]any)
	l.markers[user["sessionId"].(string)] = "token"
	l.want(401, l.logIn(name, l.mark("password")))
	l.want(401, l.logIn(l.mark("unknown username"), l.mark("password")))
	l.logIn(l.mark("value")+"/..", l.mark("password"))
}

func (l *leaks) logIn(name, password string) answer {
	return l.proxy("POST", "/saas/public/core/v3/login", map[string]string{"username": name, "password": password}, "Content-Type", "application/json")
}
