// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package main

import (
	"flag"
	"io"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// environment is an os.LookupEnv over a map.
func environment(vars map[string]string) func(string) (string, bool) {
	return func(name string) (string, bool) {
		value, ok := vars[name]
		return value, ok
	}
}

func TestDefaults(t *testing.T) {
	o, err := parseOptions(nil, environment(nil), io.Discard)
	require.NoError(t, err)
	require.Equal(t, &options{
		listen: "127.0.0.1:8080", mount: "dek", userpassMount: "userpass",
		vaultTimeout: 10 * time.Second, cacheSize: 10_000, logLevel: "info",
	}, o)
}

func TestFlagsAndEnvironment(t *testing.T) {
	o, err := parseOptions(
		[]string{"-listen", ":1", "-realm", "default=jwt:dek", "-realm", "partner=team/oidc:guest", "-vault-timeout", "3s"},
		environment(map[string]string{
			"DEK_PROXY_LISTEN": ":2", "DEK_PROXY_REALM": "x=y:z", "DEK_PROXY_MOUNT": "keys", "DEK_PROXY_TLS_CERT": "",
		}), io.Discard,
	)
	require.NoError(t, err)
	require.Equal(t, ":1", o.listen, "the command line wins")
	require.Equal(t, "keys", o.mount)
	require.Equal(t, 9*time.Second, o.requestTimeout())
	require.Equal(t, map[string]realmConfig{
		"default": {authMount: "jwt", role: "dek"}, "partner": {authMount: "team/oidc", role: "guest"},
	}, o.realms.byName)

	o, err = parseOptions(nil, environment(map[string]string{"DEK_PROXY_REALM": "a=b:c,d=e:f"}), io.Discard)
	require.NoError(t, err)
	require.Len(t, o.realms.byName, 2)
}

func TestUsageErrors(t *testing.T) {
	for _, args := range [][]string{
		{"-nonsense"},
		{"argument"},
		{"-realm", "x"},
		{"-realm", "a=b:c", "-realm", "a=b:d"},
		{"-vault-timeout", "0s"},
		{"-tls-cert", "x"},
		{"-tls-key", "x"},
		{"-log-level", "loud"},
		{"-token-cache-size", "0"},
		{"-public-url", "example.com"},
		{"-public-url", "ftp://example.com"},
	} {
		_, err := parseOptions(args, environment(nil), io.Discard)
		require.ErrorIs(t, err, errUsage, args)
	}
	_, err := parseOptions(nil, environment(map[string]string{"DEK_PROXY_VAULT_TIMEOUT": "soon"}), io.Discard)
	require.ErrorIs(t, err, errUsage)
	require.ErrorContains(t, err, "DEK_PROXY_VAULT_TIMEOUT")
	_, err = parseOptions([]string{"-h"}, environment(nil), io.Discard)
	require.ErrorIs(t, err, flag.ErrHelp)
}

func TestParseRealm(t *testing.T) {
	name, realm, err := parseRealm("partner=/team/oidc/:guest")
	require.NoError(t, err)
	require.Equal(t, "partner", name)
	require.Equal(t, realmConfig{authMount: "team/oidc", role: "guest"}, realm)
	for _, bad := range []string{"", "a", "a=", "a=b", "a=b:", "a=:b", "=a:b", "a=/:d"} {
		_, _, err := parseRealm(bad)
		require.Error(t, err, bad)
	}
	for _, bad := range []string{"a=b c:d", "a=../sys:d"} {
		require.Error(t, run(t.Context(), []string{"-realm", bad}, environment(nil), io.Discard), bad)
	}
}
