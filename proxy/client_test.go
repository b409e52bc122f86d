// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package proxy

import (
	"net/http/httptest"
	"net/netip"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestClientAddress(t *testing.T) {
	trusted := []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("fd00::/8")}
	for _, tc := range []struct {
		name, peer string
		forwarded  []string
		want       string
	}{
		{"no proxy", "192.0.2.1:1", nil, "192.0.2.1"},
		{"a stranger's header", "192.0.2.1:1", []string{"198.51.100.1"}, "192.0.2.1"},
		{"a trusted proxy", "10.0.0.1:1", []string{"198.51.100.1"}, "198.51.100.1"},
		{"what the client itself sent", "10.0.0.1:1", []string{"127.0.0.1, 198.51.100.1"}, "198.51.100.1"},
		{"two trusted proxies", "10.0.0.1:1", []string{"203.0.113.9, 198.51.100.1, 10.0.0.2"}, "198.51.100.1"},
		{"two headers", "10.0.0.1:1", []string{"203.0.113.9", "198.51.100.1"}, "198.51.100.1"},
		{"no header", "10.0.0.1:1", nil, "10.0.0.1"},
		{"nothing but trusted ones", "10.0.0.1:1", []string{"10.0.0.3, 10.0.0.2"}, "10.0.0.3"},
		{"nonsense", "10.0.0.1:1", []string{"198.51.100.1, unknown"}, "10.0.0.1"},
		{"nonsense in front", "10.0.0.1:1", []string{"x\"y, 198.51.100.1"}, "198.51.100.1"},
		{"a port behind it", "10.0.0.1:1", []string{"198.51.100.1:4711"}, "198.51.100.1"},
		{"a port behind IPv6", "10.0.0.1:1", []string{"[2001:db8::1]:4711"}, "2001:db8::1"},
		{"empty", "10.0.0.1:1", []string{""}, "10.0.0.1"},
		{"IPv6", "[fd00::1]:1", []string{"2001:db8::1"}, "2001:db8::1"},
		{"IPv4 in IPv6", "[::ffff:10.0.0.1]:1", []string{"::ffff:198.51.100.1"}, "198.51.100.1"},
		{"a zone", "[fe80::1%eth0]:1", nil, "fe80::1"},
		{"no address", "@", []string{"198.51.100.1"}, "invalid IP"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			r := httptest.NewRequest("GET", "/", nil)
			r.RemoteAddr = tc.peer
			r.Header["X-Forwarded-For"] = tc.forwarded
			require.Equal(t, tc.want, clientAddress(r, trusted).String())
		})
	}
}

func TestAddressesAreCountedByNetwork(t *testing.T) {
	require.Equal(t, "192.0.2.1", addressKey(netip.MustParseAddr("192.0.2.1")))
	require.Equal(t, addressKey(netip.MustParseAddr("2001:db8:0:1::1")), addressKey(netip.MustParseAddr("2001:db8:0:1:ffff::2")))
	require.NotEqual(t, addressKey(netip.MustParseAddr("2001:db8:0:1::1")), addressKey(netip.MustParseAddr("2001:db8:0:2::1")))
}
