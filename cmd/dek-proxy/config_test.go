// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package main

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestConfigInHCLAndJSON(t *testing.T) {
	want := map[string]realmConfig{
		"default": {},
		"acme": {
			Address: "https://vault.acme.example:8200", CACert: "acme.pem", ClientCert: "c.pem", ClientKey: "k.pem",
			TLSServerName: "vault", Namespace: "team", Mount: "keys", AuthMount: "oidc", Role: "admin",
			UserpassMount: "people", UserClaim: "email", RolePrefix: "dek-",
		},
	}
	hcl := `
		# Two organizations.
		realm "default" {}
		realm "acme" {
		  address = "https://vault.acme.example:8200"
		  ca_cert = "acme.pem"
		  client_cert = "c.pem"
		  client_key = "k.pem"
		  tls_server_name = "vault"
		  namespace = "team"
		  mount = "keys"
		  auth_mount = "oidc"
		  role = "admin"
		  userpass_mount = "people"
		  user_claim = "email"
		  role_prefix = "dek-"
		}`
	json := `{"realm": {"default": {}, "acme": {
		"address": "https://vault.acme.example:8200", "ca_cert": "acme.pem", "client_cert": "c.pem", "client_key": "k.pem",
		"tls_server_name": "vault", "namespace": "team", "mount": "keys", "auth_mount": "oidc", "role": "admin",
		"userpass_mount": "people", "user_claim": "email", "role_prefix": "dek-"}}}`
	for name, text := range map[string]string{"HCL": hcl, "JSON": json} {
		t.Run(name, func(t *testing.T) {
			got, err := parseConfig([]byte(text))
			require.NoError(t, err)
			require.Equal(t, want, got)
		})
	}
}

func TestFaultyConfigNamesTheField(t *testing.T) {
	for text, says := range map[string]string{
		``:                               "realm: want at least one",
		`{}`:                             "realm: want at least one",
		`realm = "x"`:                    "realm: want at least one",
		`realm "a" {`:                    "",
		`realm "a" {} listen = ":8080"`:  "listen: no such field",
		`realm "a" { url = "x" }`:        `realm "a": url: no such field`,
		`realm "a" { mount = 5 }`:        `realm "a": mount: must be a string`,
		`realm "a" { mount = ["x"] }`:    `realm "a": mount: must be a string`,
		`realm "a" { mount = { a = 1 }}`: `realm "a": mount: must be a string`,
		`realm "a" {} realm "a" {}`:      `realm "a"`,
		`{"realm": {"a": {"Mount": 5}}}`: `realm "a": Mount: must be a string`,
		`{"realm": {"a": {"foo": 1}}}`:   `realm "a": foo: no such field`,
		`realm "a" { foo = ["x"] mount = 5 bar = "x" }`: `realm "a": bar, foo: no such field`,
		`realm "a" { role = 1 mount = 5 }`:              `realm "a": mount, role: must be a string`,
		`{"realm": {"a": "x"}}`:                         "realm",
		`{"realm": []}`:                                 "realm",
		`realm = {}`:                                    "realm: want at least one",
		`realm {}`:                                      "realm",
		"\x00":                                          "",
	} {
		_, err := parseConfig([]byte(text))
		require.ErrorContains(t, err, says, text)
	}
	for text, says := range map[string]string{
		`realm "a" { address = "vault.example" }`:                `realm "a": address`,
		`realm "a" { address = "http://vault.example" }`:         `realm "a": address`,
		`realm "a" { mount = "../sys" }`:                         `realm "a": mount`,
		`realm "a" { auth_mount = "a b" }`:                       `realm "a": auth mount`,
		`realm "a" { ca_cert = "none" }`:                         `realm "a": ca_cert`,
		`realm "a" { ca_cert = "none" client_cert = "x" }`:       `realm "a": ca_cert: open none: `,
		`realm "a" { ca_cert = "config_test.go" }`:               `realm "a": ca_cert: config_test.go: no certificate in PEM`,
		`realm "a" { client_cert = "none" }`:                     `realm "a": client_cert and client_key go together`,
		`realm "a" { client_key = "none" }`:                      `realm "a": client_cert and client_key go together`,
		`realm "a" { client_cert = "none" client_key = "none" }`: `realm "a": client_cert and client_key: open none: `,
		`realm "a" { role = "x y" }`:                             `realm "a": role "x y": want letters, digits, '_', '.' and '-', the last two not at either end`,
		`realm "" {}`:                                            "realm",
	} {
		configs, err := parseConfig([]byte(text))
		if err == nil {
			_, err = (&options{mount: "dek"}).connect(configs)
		}
		require.ErrorContains(t, err, says, text)
	}
}

func FuzzConfig(f *testing.F) {
	for _, text := range []string{`realm "a" {}`, `{"realm": {"a": {"mount": "x"}}}`, `realm "a" { mount = "x" }`, "", "[", `realm "a" "b" {}`} {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		configs, err := parseConfig(text)
		if err == nil {
			require.NotEmpty(t, configs)
		}
	})
}
