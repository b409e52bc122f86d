// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package vault

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/vault/api"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/vault-plugin-dek/vault-plugin-dek/proxy/vault/vaulttest"
)

// testClient is a Client of the server.
func testClient(t testing.TB, f *vaulttest.Server, timeout time.Duration) *Client {
	t.Helper()
	conf := api.DefaultConfig()
	conf.Address = f.URL
	client, err := New(Config{API: conf, Timeout: timeout})
	require.NoError(t, err)
	return client
}

func TestClientNeverUsesItsOwnToken(t *testing.T) {
	t.Setenv("VAULT_TOKEN", "hvs.environment")
	t.Setenv("VAULT_WRAP_TTL", "60s")
	f := vaulttest.New(t)
	var wrapped bool
	f.On(vaulttest.AtSettings, func(w http.ResponseWriter, r *http.Request) {
		wrapped = r.Header.Get("X-Vault-Wrap-TTL") != ""
		vaulttest.Reply(200, vaulttest.SettingsData)(w, r)
	})
	c := testClient(t, f, time.Minute)
	_, err := c.Settings(t.Context(), "hvs.caller")
	require.NoError(t, err)
	_, err = c.Login(t.Context(), "x")
	require.NoError(t, err)
	_, err = c.Health(t.Context())
	require.NoError(t, err)
	require.Equal(t, "hvs.caller", f.Calls()[0].Token)
	require.Empty(t, f.Calls()[1].Token)
	require.Empty(t, f.Calls()[2].Token)
	require.False(t, wrapped)
}

func TestClientHonoursTheNamespace(t *testing.T) {
	t.Setenv("VAULT_NAMESPACE", "team")
	f := vaulttest.New(t)
	spaces := map[string]string{}
	for _, route := range []string{vaulttest.AtSettings, vaulttest.AtHealth} {
		f.On(route, func(w http.ResponseWriter, r *http.Request) {
			spaces[route] = r.Header.Get("X-Vault-Namespace")
			vaulttest.Reply(200, vaulttest.SettingsData)(w, r)
		})
	}
	c := testClient(t, f, time.Minute)
	_, err := c.Settings(t.Context(), "x")
	require.NoError(t, err)
	_, err = c.Health(t.Context())
	require.NoError(t, err)
	require.Equal(t, map[string]string{vaulttest.AtSettings: "team", vaulttest.AtHealth: ""}, spaces, "sys/health answers in the root namespace only")
}

func TestClientDoesNotRetryByItself(t *testing.T) {
	t.Setenv("VAULT_MAX_RETRIES", "3")
	f := vaulttest.New(t)
	f.On(vaulttest.AtRotate, vaulttest.Reply(500, `{"errors":["x"]}`))
	_, err := testClient(t, f, time.Minute).Rotate(t.Context(), "x", vaulttest.TenantID, "key")
	var ve *Error
	require.ErrorAs(t, err, &ve)
	require.Len(t, f.Seen(vaulttest.AtRotate), 1)
}

func TestClientTellsTimeoutFromLoss(t *testing.T) {
	f := vaulttest.New(t)
	hang := make(chan struct{})
	f.On(vaulttest.AtSettings, func(_ http.ResponseWriter, r *http.Request) {
		select {
		case <-hang:
		case <-r.Context().Done():
		}
	})
	f.On(vaulttest.AtHealth, f.Answer(vaulttest.AtSettings))
	c := testClient(t, f, 20*time.Millisecond)
	_, err := c.Settings(t.Context(), "x")
	require.ErrorIs(t, err, ErrTimeout)
	require.False(t, Repeatable(err))
	_, err = c.Health(t.Context())
	require.ErrorIs(t, err, ErrTimeout)
	close(hang)
	f.On(vaulttest.AtSettings, vaulttest.HangUp)
	_, err = testClient(t, f, time.Minute).Settings(t.Context(), "x")
	require.ErrorIs(t, err, ErrUnreachable)
	require.True(t, Repeatable(err))
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err = testClient(t, f, time.Minute).Settings(ctx, "x")
	require.ErrorIs(t, err, ErrUnreachable)
}

func TestTokenOfFewUsesIsNotShared(t *testing.T) {
	f := vaulttest.New(t)
	f.On(vaulttest.AtLogin, vaulttest.Reply(200, `{"auth": {"client_token": "hvs.x", "lease_duration": 60, "num_uses": 3}}`))
	token, err := testClient(t, f, time.Minute).Login(t.Context(), "x")
	require.NoError(t, err)
	require.Equal(t, Token{Value: "hvs.x"}, token)
}

func TestNewClientChecksItsConfiguration(t *testing.T) {
	for _, mount := range []string{"a b", "a//b", "../x", "a?b", "é"} {
		_, err := New(Config{Mount: mount})
		require.Error(t, err, mount)
		_, err = New(Config{UserpassMount: mount})
		require.Error(t, err, mount)
	}
	for _, role := range []string{"x y", "x/y", ".x", "x-", "..", "é", "x\n"} {
		_, err := New(Config{Role: role})
		require.ErrorContains(t, err, fmt.Sprintf("role %q: want letters", role))
	}
	for _, role := range []string{"x", "_", "dek-security_admin", "A.b--9"} {
		_, err := New(Config{Role: role})
		require.NoError(t, err, role)
	}
	c, err := New(Config{Mount: "/team/dek/"})
	require.NoError(t, err)
	require.Equal(t, "team/dek", c.cfg.Mount)
	require.Equal(t, "userpass", c.cfg.UserpassMount)
	_, err = New(Config{API: &api.Config{Error: errors.New("bad certificate")}})
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

// TestConnectionsAreKept: calls at once, and then calls at once again, open no further
// connection.
func TestConnectionsAreKept(t *testing.T) {
	f := vaulttest.New(t)
	const callers = 50
	var together sync.WaitGroup
	peers := map[string]bool{}
	var mu sync.Mutex
	f.On(vaulttest.AtSettings, func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		peers[r.RemoteAddr] = true
		mu.Unlock()
		together.Done()
		together.Wait()
		vaulttest.Reply(200, vaulttest.SettingsData)(w, r)
	})
	c := testClient(t, f, time.Minute)
	for range 3 {
		together.Add(callers)
		var all sync.WaitGroup
		for range callers {
			all.Go(func() {
				_, err := c.Settings(t.Context(), "x")
				assert.NoError(t, err)
			})
		}
		all.Wait()
	}
	require.LessOrEqual(t, len(peers), callers+callers/5, "a connection may not be back in time")
}

func TestRedirectsAreNoAnswer(t *testing.T) {
	f := vaulttest.New(t)
	for _, status := range []int{301, 302, 303, 307, 308} {
		f.On(vaulttest.AtLogin, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Location", "/v1/auth/jwt/login")
			w.WriteHeader(status)
		})
		_, err := testClient(t, f, time.Minute).Login(t.Context(), "x")
		require.ErrorIs(t, err, ErrUnreachable, "%d", status)
	}
}
