// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package provider_test

import (
	"crypto/sha256"
	"errors"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/vault/sdk/logical"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/keyring"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/provider"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/provider/providertest"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/storage"
)

func newStore(in provider.Surroundings) *provider.Store {
	return provider.NewStore(storage.NewMount(&logical.InmemStorage{}), time.Now, in)
}

func transitAt(address string) provider.Config {
	return provider.Config{
		Type: "transit", Lease: provider.DefaultLease, Timeout: provider.MinTimeout,
		Parameters: map[string]string{"address": address, "token": providertest.Token, "key_name": "dek"},
	}
}

// A served provider wraps and opens, and its KEK opens at its own place alone.
func wrapsAndOpens(t *testing.T, s *provider.Store, c provider.Config) {
	t.Helper()
	c.Timeout = provider.MaxTimeout // for a busy machine
	require.NoError(t, s.Check(c))
	require.NoError(t, s.Try(t.Context(), "own", c, nil))
	require.NoError(t, s.Put(t.Context(), "own", c, nil))
	key := keyring.NewMaterial()
	is := func(opened []byte) bool { return sha256.Sum256(opened) == sha256.Sum256(key) }
	place := provider.Place{Owner: keyring.Owner{Tenant: "t", Incarnation: "i"}, KEKID: "kek-1"}
	wrapped, _, err := s.Wrap(t.Context(), "own", place, key)
	require.NoError(t, err)
	require.NotContains(t, string(wrapped), string(key))
	opened, _, err := s.Unwrap(t.Context(), "own", provider.Request, place, wrapped, is)
	require.NoError(t, err)
	require.Equal(t, key, opened)
	for _, other := range []provider.Place{
		{Owner: keyring.Owner{Tenant: "u", Incarnation: "i"}, KEKID: "kek-1"},
		{Owner: keyring.Owner{Tenant: "t", Incarnation: "j"}, KEKID: "kek-1"},
		{Owner: place.Owner, KEKID: "kek-2"},
		{},
	} {
		_, _, err = s.Unwrap(t.Context(), "own", provider.Request, other, wrapped, is)
		require.ErrorIs(t, err, provider.ErrUnavailable, "%v", other)
	}
	_, _, err = s.Unwrap(t.Context(), "own", provider.Request, place, wrapped, func([]byte) bool { return false })
	require.ErrorIs(t, err, provider.ErrUnavailable, "another KEK than was wrapped")
	require.NoError(t, s.Probe(t.Context(), "own"))
	require.Equal(t, provider.StateOK, s.State("own").State)
}

func TestTransitWrapsAndOpens(t *testing.T) {
	transit := providertest.NewTransit()
	server := httptest.NewServer(transit)
	defer server.Close()
	wrapsAndOpens(t, newStore(provider.Surroundings{}), transitAt(server.URL))
}

func TestKMSv2WrapsAndOpens(t *testing.T) {
	dir := t.TempDir()
	kms := providertest.NewKMS(t, dir)
	wrapsAndOpens(t, newStore(provider.Surroundings{Sockets: dir}),
		provider.Config{Type: "kmsv2", Socket: kms.Socket, Lease: provider.DefaultLease, Timeout: provider.MinTimeout})
}

// What an answer says of the key: denied only where nothing else can be meant.
func TestTransitAnswers(t *testing.T) {
	for mode, want := range map[providertest.Mode]error{
		providertest.Denies:   provider.ErrDenied,
		providertest.Gone:     provider.ErrDenied,
		providertest.TooOld:   provider.ErrDenied,
		providertest.Unmounts: provider.ErrDenied,
		providertest.Sealed:   provider.ErrUnavailable,
		providertest.Hangs:    provider.ErrUnavailable,
		providertest.Breaks:   provider.ErrUnavailable,
		providertest.Garbage:  provider.ErrUnavailable,
		providertest.OtherKey: provider.ErrUnavailable,
		providertest.Lies:     provider.ErrUnavailable,
	} {
		transit := providertest.NewTransit()
		s := newStore(provider.Surroundings{Transport: transit})
		c := transitAt("https://vault.example")
		require.NoError(t, s.Put(t.Context(), "own", c, nil))
		transit.Set(mode)
		err := s.Probe(t.Context(), "own")
		require.ErrorIs(t, err, want, "mode %d", mode)
		require.NotContains(t, err.Error(), providertest.Token)
		require.ErrorIs(t, s.Try(t.Context(), "own", c, nil), want)
		state := s.State("own")
		require.Equal(t, errors.Is(want, provider.ErrDenied), state.State == provider.StateDenied, "mode %d", mode)
		require.NotEmpty(t, state.LastError)
		transit.Set(providertest.Works)
		require.NoError(t, s.Probe(t.Context(), "own"))
		require.Equal(t, provider.StateOK, s.State("own").State)
	}
}

func TestKMSv2Answers(t *testing.T) {
	dir := t.TempDir()
	kms := providertest.NewKMS(t, dir)
	s := newStore(provider.Surroundings{Sockets: dir})
	c := provider.Config{Type: "kmsv2", Socket: kms.Socket, Lease: provider.DefaultLease, Timeout: provider.MaxTimeout}
	require.NoError(t, s.Put(t.Context(), "hsm", c, nil))
	for code, want := range map[codes.Code]error{
		codes.PermissionDenied: provider.ErrDenied,
		codes.NotFound:         provider.ErrDenied,
		codes.Unavailable:      provider.ErrUnavailable,
		codes.Unauthenticated:  provider.ErrUnavailable,
		codes.Internal:         provider.ErrUnavailable,
		codes.Unknown:          provider.ErrUnavailable,
	} {
		kms.Fail(status.Error(code, "no"))
		require.ErrorIs(t, s.Probe(t.Context(), "hsm"), want, "%s", code)
	}
	kms.Fail(nil)
	require.NoError(t, s.Probe(t.Context(), "hsm"))
}

func TestSettingsThatAreRefused(t *testing.T) {
	dir := t.TempDir()
	outside := filepath.Join(t.TempDir(), "kms.sock")
	require.NoError(t, os.WriteFile(outside, nil, 0o600))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "kms.sock"), nil, 0o600))
	require.NoError(t, os.Symlink(outside, filepath.Join(dir, "link.sock")))
	in := provider.Surroundings{Sockets: dir}
	good := transitAt("https://vault.example:8200")
	require.NoError(t, newStore(in).Check(good))
	parameter := func(name, value string) provider.Config {
		c, err := good.With(map[string]string{"address": good.Parameters["address"], "token": "x", "key_name": "dek", name: value})
		require.NoError(t, err)
		return c
	}
	with := func(change func(*provider.Config)) provider.Config {
		c := good
		change(&c)
		return c
	}
	socket := func(path string) provider.Config {
		return provider.Config{Type: "kmsv2", Socket: path, Lease: provider.DefaultLease, Timeout: provider.MinTimeout}
	}
	require.NoError(t, newStore(in).Check(socket(filepath.Join(dir, "kms.sock"))))
	for name, c := range map[string]provider.Config{
		"type":                with(func(c *provider.Config) { c.Type = "shamir" }),
		"no type":             with(func(c *provider.Config) { c.Type = "" }),
		"lease":               with(func(c *provider.Config) { c.Lease = 9 * time.Second }),
		"long lease":          with(func(c *provider.Config) { c.Lease = 25 * time.Hour }),
		"grace":               with(func(c *provider.Config) { c.Grace = 25 * time.Hour }),
		"timeout":             with(func(c *provider.Config) { c.Timeout = 0 }),
		"unknown":             parameter("tls_ca_path", "/etc/ssl"),
		"file":                parameter("tls_ca_cert", "/etc/ssl/ca.pem"),
		"key file":            parameter("tls_client_key", "/etc/ssl/key.pem"),
		"address":             parameter("address", "vault.example:8200"),
		"file address":        parameter("address", "file:///etc/passwd"),
		"credentials in it":   parameter("address", "https://a:b@vault.example"),
		"no token":            parameter("token", ""),
		"header":              parameter("token", "a\r\nX-Other: b"),
		"no key":              parameter("key_name", ""),
		"key":                 parameter("key_name", "../sys/seal"),
		"key with slash":      parameter("key_name", "a/b"),
		"mount":               parameter("mount_path", "transit/../sys"),
		"mount with a query":  parameter("mount_path", "transit?x"),
		"flag":                parameter("tls_skip_verify", "maybe"),
		"huge":                parameter("namespace", strings.Repeat("n", 20<<10)),
		"socket outside":      socket(outside),
		"socket by a link":    socket(filepath.Join(dir, "link.sock")),
		"socket by dots":      socket(dir + "/../kms.sock"),
		"socket not there":    socket(filepath.Join(dir, "other.sock")),
		"the directory":       socket(dir),
		"no socket":           socket(""),
		"relative socket":     socket("kms.sock"),
		"parameters of kmsv2": with(func(c *provider.Config) { c.Type, c.Socket = "kmsv2", filepath.Join(dir, "kms.sock") }),
	} {
		err := newStore(in).Check(c)
		require.ErrorIs(t, err, provider.ErrInvalid, name)
		require.NotContains(t, err.Error(), "/etc/", name)
	}
	require.ErrorContains(t, newStore(provider.Surroundings{}).Check(socket(filepath.Join(dir, "kms.sock"))), "-provider-sockets")
}

// Nothing of the server's environment reaches a provider.
func TestEnvironmentIsNotUsed(t *testing.T) {
	var seen []*http.Request
	transit := providertest.NewTransit()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		seen = append(seen, req)
		transit.ServeHTTP(w, req)
	}))
	defer server.Close()
	for name, value := range map[string]string{
		"VAULT_ADDR": "http://127.0.0.1:1", "VAULT_TOKEN": "hvs.of-the-server", "VAULT_NAMESPACE": "server", "VAULT_CACERT": "/nowhere",
		"VAULT_HEADERS": `{"X-Server":"1"}`, "HTTP_PROXY": "http://127.0.0.1:1", "VAULT_TRANSIT_SEAL_KEY_NAME": "other",
		"VAULT_PROXY_ADDR": "http://127.0.0.1:1", "VAULT_SKIP_VERIFY": "true", "TRANSIT_WRAPPER_MOUNT_PATH": "other",
	} {
		t.Setenv(name, value)
	}
	c := transitAt(server.URL)
	c.Timeout = provider.MaxTimeout
	require.NoError(t, newStore(provider.Surroundings{}).Try(t.Context(), "own", c, nil))
	var paths []string
	for _, req := range seen {
		paths = append(paths, req.URL.Path)
		require.Equal(t, providertest.Token, req.Header.Get("X-Vault-Token"))
		require.Empty(t, req.Header.Get("X-Vault-Namespace"))
		require.Empty(t, req.Header.Get("X-Server"))
	}
	require.Equal(t, []string{"/v1/transit/decrypt/dek", "/v1/transit/encrypt/dek", "/v1/transit/decrypt/dek"}, paths, "the first looks for the key")
}

// A redirect would take the token to another address.
func TestRedirectsAreNotFollowed(t *testing.T) {
	followed := false
	other := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { followed = true }))
	defer other.Close()
	server := httptest.NewServer(http.RedirectHandler(other.URL, http.StatusTemporaryRedirect))
	defer server.Close()
	require.ErrorIs(t, newStore(provider.Surroundings{}).Try(t.Context(), "own", transitAt(server.URL), nil), provider.ErrUnavailable)
	require.False(t, followed)
}

// A hanging provider costs its timeout, and a full one answers at once.
func TestCallsAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		transit := providertest.NewTransit()
		s := newStore(provider.Surroundings{Transport: transit})
		c := transitAt("https://vault.example")
		require.NoError(t, s.Put(t.Context(), "own", c, nil))
		transit.Set(providertest.Hangs)
		began := time.Now()
		ended := make(chan error, 40)
		for range cap(ended) {
			go func() { ended <- s.Probe(t.Context(), "own") }()
		}
		for range 8 { // of 40 calls, 32 have a place
			require.ErrorIs(t, <-ended, provider.ErrBusy)
		}
		require.Zero(t, time.Since(began))
		for range 32 {
			require.ErrorContains(t, <-ended, "no answer within the timeout")
		}
		require.Equal(t, c.Timeout, time.Since(began))
	})
}

func TestCredentialsAreKeptAndNotShown(t *testing.T) {
	c := transitAt("https://vault.example")
	require.Equal(t, provider.Configured, c.Shown()["token"])
	require.Equal(t, "dek", c.Shown()["key_name"])
	again, err := c.With(c.Shown())
	require.NoError(t, err)
	require.Equal(t, c.Parameters, again.Parameters)
	_, err = provider.Config{Type: "transit"}.With(map[string]string{"token": provider.Configured})
	require.ErrorIs(t, err, provider.ErrInvalid)
}

func TestPutSeesWhatAnotherPutDid(t *testing.T) {
	s := newStore(provider.Surroundings{})
	c := transitAt("https://vault.example")
	require.NoError(t, s.Put(t.Context(), "own", c, nil))
	require.ErrorIs(t, s.Put(t.Context(), "own", c, nil), storage.ErrContended)
	was := c
	c.Lease = time.Minute
	require.NoError(t, s.Put(t.Context(), "own", c, &was))
	require.ErrorIs(t, s.Put(t.Context(), "own", c, &was), storage.ErrContended)
	require.NoError(t, s.Delete(t.Context(), "own"))
	_, err := s.Config(t.Context(), "own")
	require.ErrorIs(t, err, provider.ErrNotFound)
}
