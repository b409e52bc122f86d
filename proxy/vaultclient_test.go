// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package proxy

import (
	"context"
	"errors"
	"net/http"
	"testing"
	"time"

	"github.com/hashicorp/vault/api"
	"github.com/stretchr/testify/require"
)

func TestClientNeverUsesItsOwnToken(t *testing.T) {
	t.Setenv("VAULT_TOKEN", "hvs.environment")
	t.Setenv("VAULT_WRAP_TTL", "60s")
	f := newFakeVault(t)
	var wrapped bool
	f.on(atSettings, func(w http.ResponseWriter, r *http.Request) {
		wrapped = r.Header.Get("X-Vault-Wrap-TTL") != ""
		reply(200, settingsData)(w, r)
	})
	c := testClient(t, f, time.Second)
	_, err := c.Settings(t.Context(), "hvs.caller")
	require.NoError(t, err)
	_, err = c.Login(t.Context(), Realm{"jwt", "dek"}, "x")
	require.NoError(t, err)
	_, err = c.Health(t.Context())
	require.NoError(t, err)
	require.Equal(t, "hvs.caller", f.calls[0].token)
	require.Empty(t, f.calls[1].token)
	require.Empty(t, f.calls[2].token)
	require.False(t, wrapped)
}

func TestClientHonoursTheNamespace(t *testing.T) {
	t.Setenv("VAULT_NAMESPACE", "team")
	f := newFakeVault(t)
	spaces := map[string]string{}
	for _, route := range []string{atSettings, atHealth} {
		f.on(route, func(w http.ResponseWriter, r *http.Request) {
			spaces[route] = r.Header.Get("X-Vault-Namespace")
			reply(200, settingsData)(w, r)
		})
	}
	c := testClient(t, f, time.Second)
	_, err := c.Settings(t.Context(), "x")
	require.NoError(t, err)
	_, err = c.Health(t.Context())
	require.NoError(t, err)
	require.Equal(t, map[string]string{atSettings: "team", atHealth: ""}, spaces, "sys/health answers in the root namespace only")
}

func TestClientDoesNotRetryByItself(t *testing.T) {
	t.Setenv("VAULT_MAX_RETRIES", "3")
	f := newFakeVault(t)
	f.on(atRotate, reply(500, `{"errors":["x"]}`))
	_, err := testClient(t, f, time.Second).Rotate(t.Context(), "x", tenantID, "key")
	var ve *VaultError
	require.ErrorAs(t, err, &ve)
	require.Len(t, f.seen(atRotate), 1)
}

func TestClientTellsTimeoutFromLoss(t *testing.T) {
	f := newFakeVault(t)
	hang := make(chan struct{})
	f.on(atSettings, func(_ http.ResponseWriter, r *http.Request) {
		select {
		case <-hang:
		case <-r.Context().Done():
		}
	})
	f.on(atHealth, f.answers[atSettings])
	c := testClient(t, f, 20*time.Millisecond)
	_, err := c.Settings(t.Context(), "x")
	require.ErrorIs(t, err, ErrTimeout)
	require.False(t, repeatable(err))
	_, err = c.Health(t.Context())
	require.ErrorIs(t, err, ErrTimeout)
	close(hang)
	f.on(atSettings, hangUp)
	_, err = testClient(t, f, time.Second).Settings(t.Context(), "x")
	require.ErrorIs(t, err, ErrUnreachable)
	require.True(t, repeatable(err))
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err = testClient(t, f, time.Second).Settings(ctx, "x")
	require.ErrorIs(t, err, ErrUnreachable)
}

func TestTokenOfFewUsesIsNotShared(t *testing.T) {
	f := newFakeVault(t)
	f.on(atLogin, reply(200, `{"auth": {"client_token": "hvs.x", "lease_duration": 60, "num_uses": 3}}`))
	token, err := testClient(t, f, time.Second).Login(t.Context(), Realm{"jwt", "dek"}, "x")
	require.NoError(t, err)
	require.Equal(t, Token{Value: "hvs.x"}, token)
}

func TestNewClientChecksItsConfiguration(t *testing.T) {
	for _, mount := range []string{"a b", "a//b", "../x", "a?b", "é"} {
		_, err := NewClient(ClientConfig{Mount: mount})
		require.Error(t, err, mount)
		_, err = NewClient(ClientConfig{UserpassMount: mount})
		require.Error(t, err, mount)
	}
	c, err := NewClient(ClientConfig{Mount: "/team/dek/"})
	require.NoError(t, err)
	require.Equal(t, "team/dek", c.mount)
	require.Equal(t, "userpass", c.userpass)
	_, err = NewClient(ClientConfig{API: &api.Config{Error: errors.New("bad certificate")}})
	require.ErrorContains(t, err, "bad certificate")
}

func TestCleanMessages(t *testing.T) {
	for raw, want := range map[string][]string{
		"":                               {},
		"plain":                          {"plain"},
		"1 error occurred:\n\t* a b\n\n": {"a b"},
		"2 errors occurred:\n\t* permission denied\n\t* invalid token\n\n": {"permission denied", "invalid token"},
	} {
		require.Equal(t, want, cleanMessages([]string{raw}))
	}
}

func TestNewChecksItsConfiguration(t *testing.T) {
	_, err := New(Config{})
	require.ErrorContains(t, err, "Vault is required")
	vault := testClient(t, newFakeVault(t), time.Second)
	for _, realms := range []map[string]Realm{
		{"": {"jwt", "dek"}}, {"x": {"", "dek"}}, {"x": {"jwt", ""}}, {"x": {"jwt/../../sys", "dek"}},
	} {
		_, err := New(Config{Vault: vault, Realms: realms})
		require.Error(t, err)
	}
}

func TestParseRealm(t *testing.T) {
	name, realm, err := ParseRealm("partner=/team/oidc/:guest")
	require.NoError(t, err)
	require.Equal(t, "partner", name)
	require.Equal(t, Realm{"team/oidc", "guest"}, realm)
	for _, bad := range []string{"", "a", "a=", "a=b", "a=b:", "a=:b", "=a:b", "a=b c:d", "a=/:d", "a=../sys:d"} {
		_, _, err := ParseRealm(bad)
		require.Error(t, err, bad)
	}
}
