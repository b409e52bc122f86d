// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package provider_test

import (
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/keyring"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/provider"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/provider/providertest"
)

func azureOf() provider.Config {
	return provider.Config{
		Type: "azurekeyvault", Lease: provider.DefaultLease, Timeout: provider.DefaultTimeout,
		Parameters: map[string]string{
			"tenant_id": providertest.AzureTenant, "client_id": providertest.AzureClient, "client_secret": providertest.AzureSecret,
			"vault_name": "owner", "key_name": "dek",
		},
	}
}

func TestAzureWrapsAndOpens(t *testing.T) {
	wrapsAndOpens(t, newStore(provider.Surroundings{Transport: providertest.NewAzure()}), azureOf())
}

// Each of Azure's clouds has hosts of its own, and so has a managed HSM.
func TestAzureClouds(t *testing.T) {
	azure := providertest.NewAzure()
	for name, test := range map[string]struct{ environment, resource, login, vault string }{
		"public":      {"AZUREPUBLICCLOUD", "", "login.microsoftonline.com", "owner.vault.azure.net"},
		"any case":    {"AzurePublicCloud", "", "login.microsoftonline.com", "owner.vault.azure.net"},
		"government":  {"AZUREUSGOVERNMENTCLOUD", "", "login.microsoftonline.us", "owner.vault.usgovcloudapi.net"},
		"China":       {"AZURECHINACLOUD", "", "login.chinacloudapi.cn", "owner.vault.azure.cn"},
		"managed HSM": {"", "managedhsm.azure.net", "login.microsoftonline.com", "owner.managedhsm.azure.net"},
	} {
		azure.Login, azure.Vault = test.login, test.vault
		c := changed(azureOf(), "environment", test.environment, "resource", test.resource)
		require.NoError(t, newStore(provider.Surroundings{Transport: azure}).Try(t.Context(), "own", c, nil), name)
	}
}

// What an older version of the key has wrapped opens after the owner has rotated it.
func TestAzureKeyIsRotated(t *testing.T) {
	azure := providertest.NewAzure()
	s := newStore(provider.Surroundings{Transport: azure})
	require.NoError(t, s.Put(t.Context(), "own", azureOf(), nil))
	place := provider.Place{KEKID: "kek-1"}
	anyKey := func([]byte) bool { return true }
	key := keyring.NewMaterial()
	first, _, err := s.Wrap(t.Context(), "own", place, key)
	require.NoError(t, err)
	azure.Rotate()
	second, _, err := s.Wrap(t.Context(), "own", place, key)
	require.NoError(t, err)
	for _, wrapped := range [][]byte{first, second} {
		opened, _, err := s.Unwrap(t.Context(), "own", provider.Request, place, wrapped, anyKey)
		require.NoError(t, err)
		require.Equal(t, key, opened)
	}
	paths := map[string]int{}
	for _, req := range azure.Requests() {
		paths[req.URL.Path]++
	}
	require.Len(t, paths, 4, "one for tokens, one to wrap, one to unwrap of each version: %v", paths)
}

// What a key vault, and Entra, say of the key: denied only where nothing else can be meant.
func TestAzureAnswers(t *testing.T) {
	fail, entra := providertest.AzureFailure, providertest.EntraFailure
	const may = "Caller is not authorized to perform action on resource. Action: 'Microsoft.KeyVault/vaults/keys/unwrap/action'"
	for name, test := range map[string]struct {
		login, vault *providertest.Answer
		want         error
	}{
		"no role":                {nil, fail(403, "Forbidden", "ForbiddenByRbac", may), provider.ErrDenied},
		"no access policy":       {nil, fail(403, "Forbidden", "AccessDenied", "The user, group or application 'appid=…' does not have keys unwrapKey permission on key vault 'owner'"), provider.ErrDenied},
		"no permission":          {nil, fail(403, "Forbidden", "ForbiddenByPolicy", ""), provider.ErrDenied},
		"managed HSM":            {nil, fail(403, "Forbidden", "", "User is not authorized to perform operation"), provider.ErrDenied},
		"disabled":               {nil, fail(403, "Forbidden", "KeyDisabled", "Operation unwrapKey is not allowed on a disabled key."), provider.ErrDenied},
		"disabled, spelled so":   {nil, &providertest.Answer{Status: 403, Body: `{"error":{"code":"Forbidden","message":"","innerError":{"code":"KeyDisabled"}}}`}, provider.ErrDenied},
		"deleted":                {nil, fail(404, "KeyNotFound", "", "A key with (name/id) dek was not found in this key vault."), provider.ErrDenied},
		"secret deleted":         {entra(401, "invalid_client", 7000215, "Invalid client secret provided."), nil, provider.ErrDenied},
		"secret expired":         {entra(401, "invalid_client", 7000222, "The provided client secret keys for app are expired."), nil, provider.ErrDenied},
		"application disabled":   {entra(401, "invalid_client", 7000112, "Application is disabled."), nil, provider.ErrDenied},
		"application deleted":    {entra(400, "unauthorized_client", 700016, "Application was not found in the directory."), nil, provider.ErrDenied},
		"principal deleted":      {entra(401, "invalid_client", 7000229, "The client application is missing service principal in the tenant."), nil, provider.ErrDenied},
		"firewall":               {nil, fail(403, "Forbidden", "ForbiddenByFirewall", "Client address is not authorized and caller is not a trusted service."), provider.ErrUnavailable},
		"private endpoint":       {nil, fail(403, "Forbidden", "ForbiddenByConnection", "Public network access is disabled"), provider.ErrUnavailable},
		"another 403":            {nil, fail(403, "BrandNew", "", "KeyDisabled"), provider.ErrUnavailable},
		"token is not taken":     {nil, fail(401, "Unauthorized", "", "AKV10032: Invalid issuer."), provider.ErrUnavailable},
		"vault not found":        {nil, fail(404, "VaultNotFound", "", ""), provider.ErrUnavailable},
		"other value":            {nil, fail(400, "BadParameter", "", "The parameter is incorrect."), provider.ErrUnavailable},
		"conflict":               {nil, fail(409, "Conflict", "", ""), provider.ErrUnavailable},
		"throttled":              {nil, fail(429, "Throttled", "", "Request was not processed because too many requests were received."), provider.ErrUnavailable},
		"internal":               {nil, fail(500, "InternalServerError", "", ""), provider.ErrUnavailable},
		"denied by a fault":      {nil, fail(503, "Forbidden", "KeyDisabled", ""), provider.ErrUnavailable},
		"a proxy's 403":          {nil, &providertest.Answer{Status: 403, Body: "<html>Forbidden</html>"}, provider.ErrUnavailable},
		"a proxy's JSON":         {nil, &providertest.Answer{Status: 403, Body: `{"error":"Forbidden"}`}, provider.ErrUnavailable},
		"nonsense":               {nil, &providertest.Answer{Status: 200, Body: "<html>it works</html>"}, provider.ErrUnavailable},
		"nothing":                {nil, &providertest.Answer{Status: 200}, provider.ErrUnavailable},
		"empty":                  {nil, &providertest.Answer{Status: 200, Body: "{}"}, provider.ErrUnavailable},
		"no base64":              {nil, &providertest.Answer{Status: 200, Body: `{"kid":"https://a/keys/dek/1","value":"!!"}`}, provider.ErrUnavailable},
		"path for a version":     {nil, &providertest.Answer{Status: 200, Body: `{"kid":"https://a/keys/dek/..","value":"AAAA"}`}, provider.ErrUnavailable},
		"another key":            {nil, &providertest.Answer{Status: 200, Body: `{"kid":"https://a/keys/dek/1","value":"AAAA"}`}, provider.ErrUnavailable},
		"another key of a size":  {nil, &providertest.Answer{Status: 200, Body: `{"kid":"https://a/keys/dek/1","value":"` + strings.Repeat("A", 43) + `"}`}, provider.ErrUnavailable},
		"too long":               {nil, &providertest.Answer{Status: 200, Body: `{"value":"` + strings.Repeat("A", 2<<20) + `"}`}, provider.ErrUnavailable},
		"elsewhere":              {nil, &providertest.Answer{Status: 307, Header: http.Header{"Location": {"https://other.example/"}}}, provider.ErrUnavailable},
		"challenge":              {nil, &providertest.Answer{Status: 401, Header: http.Header{"Www-Authenticate": {`Bearer authorization="x", resource="https://other.example"`}}}, provider.ErrUnavailable},
		"no tenant":              {entra(400, "invalid_request", 90002, "Tenant not found."), nil, provider.ErrUnavailable},
		"by conditional access":  {entra(400, "invalid_grant", 53003, "Access has been blocked by Conditional Access policies."), nil, provider.ErrUnavailable},
		"Entra throttles":        {entra(429, "temporarily_unavailable", 90055, ""), nil, provider.ErrUnavailable},
		"Entra fails":            {entra(503, "temporarily_unavailable", 7000215, ""), nil, provider.ErrUnavailable},
		"Entra's page":           {&providertest.Answer{Status: 401, Body: "<html>invalid_client</html>"}, nil, provider.ErrUnavailable},
		"Entra says nothing":     {&providertest.Answer{Status: 200, Body: "{}"}, nil, provider.ErrUnavailable},
		"Entra answers nonsense": {&providertest.Answer{Status: 200, Body: "<html>it works</html>"}, nil, provider.ErrUnavailable},
		"Entra is elsewhere":     {&providertest.Answer{Status: 307, Header: http.Header{"Location": {"https://other.example/"}}}, nil, provider.ErrUnavailable},
	} {
		synctest.Test(t, func(t *testing.T) {
			azure := providertest.NewAzure()
			s := newStore(provider.Surroundings{Transport: azure})
			require.NoError(t, s.Put(t.Context(), "own", azureOf(), nil))
			place := provider.Place{KEKID: "kek-1"}
			wrapped, _, err := s.Wrap(t.Context(), "own", place, keyring.NewMaterial())
			require.NoError(t, err)
			azure.Say(test.login, test.vault)
			<-time.After(time.Second) // until the token is asked for again
			_, _, unwrapped := s.Unwrap(t.Context(), "own", provider.Request, place, wrapped, func([]byte) bool { return true })
			for _, err := range []error{unwrapped, s.Probe(t.Context(), "own"), s.Try(t.Context(), "own", azureOf(), nil)} {
				require.ErrorIs(t, err, test.want, name)
				require.NotContains(t, err.Error(), providertest.AzureSecret, name)
				require.NotContains(t, err.Error(), "providertest-token", name)
			}
			azure.Say(nil, nil)
			require.NoError(t, s.Probe(t.Context(), "own"), name)
		})
	}
}

func TestAzureSettingsThatAreRefused(t *testing.T) {
	good := azureOf()
	s := newStore(provider.Surroundings{})
	require.NoError(t, s.Check(good))
	require.NoError(t, s.Check(changed(good, "tenant_id", "owner.onmicrosoft.com")))
	for name, c := range map[string]provider.Config{
		"no tenant":         changed(good, "tenant_id", ""),
		"no client":         changed(good, "client_id", ""),
		"identity of VM":    changed(good, "client_secret", ""),
		"no vault":          changed(good, "vault_name", ""),
		"no key":            changed(good, "key_name", ""),
		"path of a tenant":  changed(good, "tenant_id", "../common"),
		"dots":              changed(good, "tenant_id", ".."),
		"another host":      changed(good, "vault_name", "attacker.example/"),
		"a port":            changed(good, "vault_name", "owner:8443"),
		"user in the host":  changed(good, "vault_name", "a@b"),
		"a key's version":   changed(good, "key_name", "dek/1"),
		"query":             changed(good, "key_name", "dek?x"),
		"environment":       changed(good, "environment", "AzureStackCloud"),
		"file":              changed(good, "environment", "/etc/azure.json"),
		"URL":               changed(good, "resource", "https://vault.azure.net"),
		"no domain":         changed(good, "resource", "localhost"),
		"unicode":           changed(good, "resource", "vault.äzure.net"),
		"long":              changed(good, "key_name", strings.Repeat("k", 200)),
		"another type's":    changed(good, "token", "x"),
		"line in the name":  changed(good, "vault_name", "a\nb"),
		"space in the name": changed(good, "key_name", "a b"),
	} {
		err := s.Check(c)
		require.ErrorIs(t, err, provider.ErrInvalid, name)
		require.NotContains(t, err.Error(), providertest.AzureSecret, name)
	}
}

// Nothing of the server's environment is used: neither its identity nor its credentials.
func TestAzureTakesNothingOfTheServer(t *testing.T) {
	for _, name := range []string{
		"AZURE_TENANT_ID", "AZURE_CLIENT_ID", "AZURE_CLIENT_SECRET", "AZURE_ENVIRONMENT", "AZURE_AD_RESOURCE", "AZURE_AUTHORITY_HOST",
		"AZUREKEYVAULT_WRAPPER_VAULT_NAME", "VAULT_AZUREKEYVAULT_VAULT_NAME", "AZUREKEYVAULT_WRAPPER_KEY_NAME", "VAULT_AZUREKEYVAULT_KEY_NAME",
		"AZURE_REGIONAL_AUTHORITY_NAME", "IDENTITY_ENDPOINT", "MSI_ENDPOINT", "AZURE_FEDERATED_TOKEN_FILE", "HTTPS_PROXY", "AZURE_SDK_GO_LOGGING",
	} {
		t.Setenv(name, "http://127.0.0.1:1/of-the-server")
	}
	azure := providertest.NewAzure()
	require.NoError(t, newStore(provider.Surroundings{Transport: azure}).Try(t.Context(), "own", azureOf(), nil))
	for _, req := range azure.Requests() {
		require.NotContains(t, req.URL.String(), "of-the-server")
		for name, values := range req.Header {
			require.NotContains(t, strings.Join(values, " "), "of-the-server", name)
		}
	}
}

// A token is used for a second: one lives for an hour, also after its secret was deleted.
func TestAzureTokensAreAskedForAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		azure := providertest.NewAzure()
		s := newStore(provider.Surroundings{Transport: azure})
		require.NoError(t, s.Put(t.Context(), "own", azureOf(), nil))
		require.NoError(t, s.Probe(t.Context(), "own"))
		require.NoError(t, s.Probe(t.Context(), "own"))
		require.Len(t, azure.Requests(), 5, "one for a token, two a probe")
		azure.Say(providertest.EntraFailure(401, "invalid_client", 7000215, "Invalid client secret provided."), nil)
		<-time.After(time.Second)
		require.ErrorIs(t, s.Probe(t.Context(), "own"), provider.ErrDenied)
	})
}
