// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

//go:build acceptance

package acceptance

import (
	"net/http"
	"strings"
	"testing"

	"github.com/google/uuid"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/vault-plugin-dek/vault-plugin-dek/internal/devstack"
)

// tokenLimit is what a listener of Vault 2 takes by default as a token, in bytes.
const tokenLimit = 8 << 10

// batchToken is a batch token of exactly a number of bytes, which Vault knows. It has what
// it stands for in itself, metadata included.
func batchToken(t *testing.T, s *devstack.Stack, size int) string {
	t.Helper()
	policy := uuid.NewString()
	a := callRoot(t, s, http.MethodPut, "sys/policies/acl/"+policy, map[string]any{"policy": `path "dek/*" { capabilities = ["read", "list"] }`})
	require.Equal(t, http.StatusNoContent, a.Status, a.errors())
	token := ""
	for filler := size * 3 / 4; len(token) != size; { // base64 makes four characters of three bytes
		a = callRoot(t, s, http.MethodPost, "auth/token/create", map[string]any{
			"type": "batch", "policies": []string{policy}, "meta": map[string]string{"filler": strings.Repeat("x", filler)},
		})
		require.Equal(t, http.StatusOK, a.Status, a.errors())
		auth, _ := a.Body["auth"].(map[string]any)
		token, _ = auth["client_token"].(string)
		require.NotEmpty(t, token)
		if over := len(token) - size; over > 0 {
			filler -= max(1, over*3/4)
		} else if over < 0 {
			break // there is none of just that size
		}
	}
	require.InDelta(t, size, len(token), 8)
	return token
}

// TestLargeTokens has tokens up to the limit of Vault 2 and beyond, through the proxy and the
// command. Up to it they work everywhere. What is longer Vault before 2 takes; the proxy does
// not.
func TestLargeTokens(t *testing.T) {
	s := shared(t)
	dek := buildDek(t)
	session := func(token string) answer {
		t.Helper()
		return callProxy(t, s, http.MethodGet, settingsPaths[0], nil, "INFA-SESSION-ID", token)
	}
	within := batchToken(t, s, tokenLimit)
	require.LessOrEqual(t, len(within), tokenLimit)
	require.Equal(t, http.StatusOK, call(t, s, http.MethodGet, "dek/status", within, nil).Status)
	a := session(within)
	assert.Equal(t, http.StatusOK, a.Status, "%s", a.Raw)
	code, _, stderr := dek.run(s, within, "status")
	assert.Zero(t, code, stderr)

	beyond := batchToken(t, s, tokenLimit+64)
	require.Greater(t, len(beyond), tokenLimit)
	a = session(beyond)
	assert.Equal(t, http.StatusUnauthorized, a.Status, "%s", a.Raw)
	direct := call(t, s, http.MethodGet, "dek/status", beyond, nil)
	code, _, stderr = dek.run(s, beyond, "status")
	if direct.Status == http.StatusOK {
		assert.Zero(t, code, stderr)
		return
	}
	assert.Contains(t, []int{http.StatusBadRequest, http.StatusRequestHeaderFieldsTooLarge}, direct.Status, "%s", direct.Raw)
	assert.NotZero(t, code)
	assert.NotContains(t, stderr, beyond)
}

// TestLargeTokensOfLogins has a JWT beyond the limit: it goes to Vault in a body. What Vault
// gives for it has the claims in it that the role maps, and stays small.
func TestLargeTokensOfLogins(t *testing.T) {
	s := shared(t)
	tenant := newTenant(t, s)
	jwt, err := s.MintJWT(devstack.Claims{
		Name: strings.Repeat("n", 100), Email: strings.Repeat("e", 240) + "@example.com", TenantID: tenant, Roles: []string{"security_admin"},
		Extra: map[string]any{"authorization_details": strings.Repeat("x", tokenLimit)},
	})
	require.NoError(t, err)
	require.Greater(t, len(jwt), tokenLimit)
	a := postRotate(t, s, jwt, tenant)
	require.Equal(t, http.StatusOK, a.Status, "%s", a.Raw)
	token, err := s.Login(t.Context(), jwt)
	require.NoError(t, err)
	assert.Less(t, len(token), tokenLimit/2)
}
