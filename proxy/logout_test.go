// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package proxy

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/vault-plugin-dek/vault-plugin-dek/proxy/vault/vaulttest"
)

const logoutPath = "/public/core/v3/logout"

func TestLogoutRevokesASession(t *testing.T) {
	for _, prefix := range []string{"", "/saas"} {
		s := newStand(t)
		session := header("INFA-SESSION-ID", "hvs.session")
		w := s.do("POST", prefix+logoutPath, session)
		require.Equal(t, 204, w.Code, w.Body.String())
		require.Empty(t, w.Body.String())
		require.Equal(t, "hvs.session", s.vault.Seen(vaulttest.AtRevoke)[0].Token)
		s.vault.On(vaulttest.AtRevoke, vaulttest.Reply(403, vaulttest.InvalidToken))
		requirePublicError(t, s.do("POST", prefix+logoutPath, session), 401, "UNAUTHORIZED")
		requirePublicError(t, s.do("POST", prefix+logoutPath), 401, "UNAUTHORIZED")
		requirePublicError(t, s.do("POST", prefix+logoutPath, header("Authorization", "Bearer "+s.goodJWT())), 401, "UNAUTHORIZED")
	}
}

// TestLogoutWithAJWT: the proxy takes it no more, whether or not Vault can revoke the
// token that it was exchanged for.
func TestLogoutWithAJWT(t *testing.T) {
	for name, answer := range map[string]int{"service token": 204, "batch token": 400} {
		t.Run(name, func(t *testing.T) {
			s := newStand(t)
			session := header("INFA-SESSION-ID", s.goodJWT())
			require.Equal(t, 200, s.do("GET", settingsPath, session).Code)
			s.vault.On(vaulttest.AtRevoke, vaulttest.Reply(answer, `{"errors":["batch tokens cannot be revoked"]}`))
			require.Equal(t, 204, s.do("POST", logoutPath, session).Code)
			requirePublicError(t, s.do("GET", settingsPath, session), 401, "UNAUTHORIZED")
			requirePublicError(t, s.do("POST", logoutPath, session), 401, "UNAUTHORIZED")
			require.Len(t, s.vault.Seen(vaulttest.AtLogin), 1)
		})
	}
	s := newStand(t)
	s.vault.On(vaulttest.AtRevoke, vaulttest.Reply(503, `{"errors":["Vault is sealed"]}`))
	requirePublicError(t, s.do("POST", logoutPath, header("INFA-SESSION-ID", s.goodJWT())), 503, "SERVICE_UNAVAILABLE")
}
