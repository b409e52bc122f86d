// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package main

import (
	"flag"
	"fmt"
	"io"
	"strings"
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
		listen: "127.0.0.1:8080", mount: "dek", userpassMount: "userpass", userClaim: "sub",
		perAddress: 30, perAccount: 10,
		vaultTimeout: 10 * time.Second, cacheSize: 10_000, logLevel: "info",
	}, o)
}

func TestFlagsAndEnvironment(t *testing.T) {
	o, err := parseOptions(
		[]string{"-listen", "127.0.0.1:1", "-realm", "default=jwt:dek", "-realm", "partner=team/oidc:guest", "-vault-timeout", "3s"},
		environment(map[string]string{
			"DEK_PROXY_LISTEN": "127.0.0.1:2", "DEK_PROXY_REALM": "x=y:z", "DEK_PROXY_MOUNT": "keys", "DEK_PROXY_TLS_CERT": "",
		}), io.Discard,
	)
	require.NoError(t, err)
	require.Equal(t, "127.0.0.1:1", o.listen, "the command line wins")
	require.Equal(t, "keys", o.mount)
	require.Equal(t, 9*time.Second, o.requestTimeout())
	require.Equal(t, map[string]realmConfig{
		"default": {AuthMount: "jwt", Role: "dek"}, "partner": {AuthMount: "team/oidc", Role: "guest"},
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
		{"-refused-logins-per-address", "0"},
		{"-refused-logins-per-account", "-1"},
		{"-trusted-proxies", "10.0.0.0/33"},
		{"-trusted-proxies", "localhost"},
		{"-trusted-proxies", ""},
		{"-config", "x", "-realm", "a=b:c"},
		{"-tls-client-ca", "x"},
		{"-listen", ":8080"},
		{"-listen", "0.0.0.0:8080"},
		{"-listen", "[::]:8080"},
		{"-listen", "192.0.2.1:8080"},
		{"-listen", "dek.example:8080"},
		{"-admin-listen", ":9090"},
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

// TestUsageErrorsSayTheRule: the flag or the variable, and what it takes.
func TestUsageErrorsSayTheRule(t *testing.T) {
	const (
		duration = "must be a duration with a unit, such as 500ms, 10s or 1m30s"
		number   = "must be a whole number"
		address  = "must be host:port, such as 127.0.0.1:8080 or :8080"
	)
	for _, c := range []struct{ flag, value, rule string }{
		{"vault-timeout", "zz", duration},
		{"vault-timeout", "10", duration},
		{"token-cache-size", "1e4", number},
		{"refused-logins-per-address", "many", number},
		{"refused-logins-per-account", "1.5", number},
		{"insecure", "zz", "must be true or false"},
		{"listen", "zz", address},
		{"listen", "127.0.0.1", address},
		{"admin-listen", "zz", address},
	} {
		given := "-" + c.flag + "=" + c.value
		_, err := parseOptions([]string{given}, environment(nil), io.Discard)
		require.ErrorIs(t, err, errUsage, given)
		require.ErrorContains(t, err, "-"+c.flag, given)
		require.ErrorContains(t, err, c.rule, given)

		name := "DEK_PROXY_" + strings.ToUpper(strings.ReplaceAll(c.flag, "-", "_"))
		_, err = parseOptions(nil, environment(map[string]string{name: c.value}), io.Discard)
		require.ErrorIs(t, err, errUsage, name)
		require.ErrorContains(t, err, c.rule, name)
		if c.rule != address {
			require.ErrorContains(t, err, fmt.Sprintf("invalid value %q for %s: ", c.value, name))
		}
	}
	// No address would be every one of the machine.
	for _, args := range [][]string{{"-listen", ""}, {"-listen", "", "-insecure"}, {"-listen", "zz", "-tls-cert", "x", "-tls-key", "y"}} {
		_, err := parseOptions(args, environment(nil), io.Discard)
		require.ErrorContains(t, err, "-listen", args)
		require.ErrorContains(t, err, address, args)
	}
	_, err := parseOptions([]string{"-listen", "192.0.2.1:8080"}, environment(nil), io.Discard)
	require.ErrorContains(t, err, `-listen "192.0.2.1:8080" is not on loopback`)
}

func TestSwitches(t *testing.T) {
	for _, args := range [][]string{{"-insecure"}, {"-insecure=true"}, {"-insecure=1", "-listen", ":1"}} {
		o, err := parseOptions(args, environment(nil), io.Discard)
		require.NoError(t, err, args)
		require.True(t, o.insecure, args)
	}
	o, err := parseOptions(nil, environment(map[string]string{"DEK_PROXY_INSECURE": "true"}), io.Discard)
	require.NoError(t, err)
	require.True(t, o.insecure)
	_, err = parseOptions([]string{"-version"}, environment(nil), io.Discard)
	require.ErrorIs(t, err, errVersion)

	var help strings.Builder
	_, err = parseOptions([]string{"-h"}, environment(nil), &help)
	require.ErrorIs(t, err, flag.ErrHelp)
	require.Contains(t, help.String(), "-vault-timeout duration\n    \tduration to wait for one call to Vault (default 10s)")
	require.Contains(t, help.String(), "-token-cache-size number\n    \tnumber of Vault tokens to keep at most (default 10000)")
	require.Contains(t, help.String(), "-insecure\n    \tallow HTTP off loopback, to callers and to Vault, and VAULT_SKIP_VERIFY\n")
}

func TestParseRealm(t *testing.T) {
	name, realm, err := parseRealm("partner=/team/oidc/:guest")
	require.NoError(t, err)
	require.Equal(t, "partner", name)
	require.Equal(t, realmConfig{AuthMount: "team/oidc", Role: "guest"}, realm)
	for _, bad := range []string{"", "a", "a=", "a=b", "a=b:", "a=:b", "=a:b", "a=/:d"} {
		_, _, err := parseRealm(bad)
		require.Error(t, err, bad)
	}
	for _, bad := range []string{"a=b c:d", "a=../sys:d", "a=b:c d", "a=b:.c", "a=b:c-"} {
		require.Error(t, run(t.Context(), []string{"-realm", bad}, environment(nil), io.Discard), bad)
	}
}

// TestInsecureMustBeAskedFor: tokens cross no network in clear, and no Vault is
// believed without its certificate, unless somebody says so.
func TestInsecureMustBeAskedFor(t *testing.T) {
	for _, args := range [][]string{
		{"-listen", ":8080", "-insecure"},
		{"-listen", "127.0.0.1:0", "-admin-listen", "localhost:0"},
		{"-listen", "[::1]:0"},
		{"-listen", ":8080", "-admin-listen", ":9090", "-tls-cert", "x", "-tls-key", "y"},
	} {
		_, err := parseOptions(args, environment(nil), io.Discard)
		require.NoError(t, err, args)
	}
	for _, tc := range []struct {
		address, skipVerify string
		ok                  bool
	}{
		{"http://127.0.0.1:8200", "", true},
		{"http://[::1]:8200", "", true},
		{"http://localhost:8200", "", true},
		{"https://vault.example:8200", "", true},
		{"unix:///run/vault.sock", "", true},
		{"http://vault.example:8200", "", false},
		{"http://192.0.2.1:8200", "", false},
		{"https://vault.example:8200", "true", false},
		{"https://127.0.0.1:8200", "1", false},
	} {
		t.Run(tc.address+tc.skipVerify, func(t *testing.T) {
			t.Setenv("VAULT_ADDR", tc.address)
			t.Setenv("VAULT_SKIP_VERIFY", tc.skipVerify)
			o, err := parseOptions(nil, environment(nil), io.Discard)
			require.NoError(t, err)
			configs, err := o.realmConfigs()
			require.NoError(t, err)
			_, err = o.connect(configs)
			require.Equal(t, tc.ok, err == nil, "%v", err)
			if !tc.ok {
				require.ErrorContains(t, err, "-insecure")
				require.ErrorIs(t, run(t.Context(), nil, environment(nil), io.Discard), errUsage)
			}
			o.insecure = true
			_, err = o.connect(configs)
			require.NoError(t, err)
		})
	}
}

func TestTrustedProxies(t *testing.T) {
	o, err := parseOptions([]string{"-trusted-proxies", "10.0.0.0/8, 192.0.2.1", "-trusted-proxies", "fd00::/8"}, environment(nil), io.Discard)
	require.NoError(t, err)
	require.Equal(t, "[10.0.0.0/8 192.0.2.1/32 fd00::/8]", fmt.Sprint(o.trusted.all))
}
