// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package provider_test

import (
	"maps"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/keyring"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/provider"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/provider/providertest"
)

func awsAt(endpoint string) provider.Config {
	return provider.Config{
		Type: "awskms", Lease: provider.DefaultLease, Timeout: provider.DefaultTimeout,
		Parameters: map[string]string{
			"region": "eu-central-1", "access_key": providertest.AWSAccessKey, "secret_key": providertest.AWSSecretKey,
			"kms_key_id": providertest.AWSKey, "endpoint": endpoint,
		},
	}
}

// changed returns c with other parameters; an empty one is taken out.
func changed(c provider.Config, parameters ...string) provider.Config {
	c.Parameters = maps.Clone(c.Parameters)
	for i := 0; i < len(parameters); i += 2 {
		if c.Parameters[parameters[i]] = parameters[i+1]; parameters[i+1] == "" {
			delete(c.Parameters, parameters[i])
		}
	}
	return c
}

func TestAWSWrapsAndOpens(t *testing.T) {
	server := httptest.NewServer(providertest.NewAWS())
	defer server.Close()
	wrapsAndOpens(t, newStore(provider.Surroundings{}), awsAt(server.URL))
}

// The owner finds whose KEK it was in CloudTrail, and can name the tenant in the key's policy.
func TestAWSEncryptionContext(t *testing.T) {
	aws := providertest.NewAWS()
	s := newStore(provider.Surroundings{Transport: aws})
	c := changed(awsAt(""), "session_token", providertest.AWSSession)
	require.NoError(t, s.Put(t.Context(), "own", c, nil))
	place := provider.Place{Owner: keyring.Owner{Tenant: "t", Incarnation: "i"}, KEKID: "kek-1"}
	_, _, err := s.Wrap(t.Context(), "own", place, keyring.NewMaterial())
	require.NoError(t, err)
	_, _, err = s.Wrap(t.Context(), "own", provider.Place{KEKID: "kek-2"}, keyring.NewMaterial())
	require.NoError(t, err)
	requests, contexts := aws.Requests()
	tenants, mounts := map[string]string{"dek_tenant": "t", "dek_incarnation": "i", "dek_kek": "kek-1"}, map[string]string{"dek_kek": "kek-2"}
	require.Equal(t, []map[string]string{tenants, tenants, mounts, mounts}, contexts)
	for _, req := range requests {
		require.Equal(t, "https://kms.eu-central-1.amazonaws.com/", req.URL.String())
		require.Equal(t, providertest.AWSSession, req.Header.Get("X-Amz-Security-Token"))
	}
}

// What AWS KMS says of the key, in the words of its API reference: denied only where nothing
// else can be meant.
func TestAWSAnswers(t *testing.T) {
	arn := providertest.AWSKey
	fail := providertest.AWSFailure
	for name, test := range map[string]struct {
		say  *providertest.Answer
		want error
	}{
		"no permission":                {fail(400, "AccessDeniedException", "User: arn:aws:iam::111122223333:user/dek is not authorized to perform: kms:Decrypt on the resource associated with this ciphertext because the resource does not exist in this Region, no resource-based policies allow access, or a resource-based policy explicitly denies access"), provider.ErrDenied},
		"disabled":                     {fail(400, "DisabledException", arn+" is disabled."), provider.ErrDenied},
		"deleted":                      {fail(400, "NotFoundException", "Key '"+arn+"' does not exist"), provider.ErrDenied},
		"to be deleted":                {fail(400, "KMSInvalidStateException", arn+" is pending deletion."), provider.ErrDenied},
		"replicas to be deleted first": {fail(400, "KMSInvalidStateException", arn+" is pending replica deletion."), provider.ErrDenied},
		"material deleted":             {fail(400, "KMSInvalidStateException", arn+" is pending import."), provider.ErrDenied},
		"access key deactivated":       {fail(400, "UnrecognizedClientException", "The security token included in the request is invalid."), provider.ErrDenied},
		"access key of query protocol": {fail(403, "InvalidClientTokenId", "The security token included in the request is invalid."), provider.ErrDenied},
		"session ended":                {fail(400, "ExpiredTokenException", "The security token included in the request is expired"), provider.ErrDenied},
		"namespace before the code":    {fail(400, "com.amazonaws.kms#DisabledException", arn+" is disabled."), provider.ErrDenied},

		"key store out of reach":   {fail(400, "KMSInvalidStateException", arn+" is unavailable."), provider.ErrUnavailable},
		"custom key store":         {fail(400, "CustomKeyStoreInvalidStateException", ""), provider.ErrUnavailable},
		"no key right now":         {fail(500, "KeyUnavailableException", ""), provider.ErrUnavailable},
		"dependency":               {fail(503, "DependencyTimeoutException", ""), provider.ErrUnavailable},
		"internal":                 {fail(500, "KMSInternalException", ""), provider.ErrUnavailable},
		"throttled":                {fail(400, "ThrottlingException", "Rate exceeded"), provider.ErrUnavailable},
		"limit":                    {fail(400, "LimitExceededException", ""), provider.ErrUnavailable},
		"other ciphertext":         {fail(400, "InvalidCiphertextException", ""), provider.ErrUnavailable},
		"other key":                {fail(400, "IncorrectKeyException", "The key ID in the request does not identify a CMK that can perform this operation."), provider.ErrUnavailable},
		"key of another kind":      {fail(400, "InvalidKeyUsageException", ""), provider.ErrUnavailable},
		"secret or clock":          {fail(400, "InvalidSignatureException", "Signature expired: 20260101T000000Z is now earlier than 20260101T001000Z"), provider.ErrUnavailable},
		"grant is new":             {fail(400, "InvalidGrantTokenException", ""), provider.ErrUnavailable},
		"unknown":                  {fail(400, "BrandNewException", "AccessDeniedException"), provider.ErrUnavailable},
		"a proxy's":                {&providertest.Answer{Status: 403, Body: "<html>AccessDeniedException</html>"}, provider.ErrUnavailable},
		"a proxy's in front of it": {fail(502, "AccessDeniedException", ""), provider.ErrUnavailable},
		"nonsense":                 {&providertest.Answer{Status: 200, Body: "<html>it works</html>"}, provider.ErrUnavailable},
		"nothing":                  {&providertest.Answer{Status: 200}, provider.ErrUnavailable},
		"empty":                    {&providertest.Answer{Status: 200, Body: "{}"}, provider.ErrUnavailable},
		"null":                     {&providertest.Answer{Status: 200, Body: `{"CiphertextBlob":null,"Plaintext":null}`}, provider.ErrUnavailable},
		"another plaintext":        {&providertest.Answer{Status: 200, Body: `{"CiphertextBlob":"AAAA","Plaintext":"AAAA","KeyId":"k"}`}, provider.ErrUnavailable},
		"too long":                 {&providertest.Answer{Status: 200, Body: `{"Plaintext":"` + strings.Repeat("A", 2<<20) + `"}`}, provider.ErrUnavailable},
		"elsewhere":                {&providertest.Answer{Status: 307, Header: http.Header{"Location": {"https://other.example/"}}}, provider.ErrUnavailable},
	} {
		aws := providertest.NewAWS()
		s := newStore(provider.Surroundings{Transport: aws})
		require.NoError(t, s.Put(t.Context(), "own", awsAt(""), nil))
		place := provider.Place{KEKID: "kek-1"}
		wrapped, _, err := s.Wrap(t.Context(), "own", place, keyring.NewMaterial())
		require.NoError(t, err)
		aws.Say(test.say)
		for _, err := range []error{
			s.Probe(t.Context(), "own"),
			s.Try(t.Context(), "own", awsAt(""), nil),
			func() error {
				_, _, err := s.Unwrap(t.Context(), "own", provider.Request, place, wrapped, func([]byte) bool { return true })
				return err
			}(),
		} {
			require.ErrorIs(t, err, test.want, name)
			require.NotContains(t, err.Error(), providertest.AWSSecretKey, name)
		}
		_, err = s.Config(t.Context(), "own")
		require.NoError(t, err)
		aws.Say(nil)
		require.NoError(t, s.Probe(t.Context(), "own"), name)
	}
}

func TestAWSSettingsThatAreRefused(t *testing.T) {
	good := awsAt("https://vpce-0123.kms.eu-central-1.vpce.amazonaws.com")
	require.NoError(t, newStore(provider.Surroundings{}).Check(good))
	require.NoError(t, newStore(provider.Surroundings{}).Check(changed(good, "region", "", "endpoint", "")))
	for name, c := range map[string]provider.Config{
		"no access key":      changed(good, "access_key", ""),
		"no secret key":      changed(good, "secret_key", ""),
		"no key":             changed(good, "kms_key_id", ""),
		"header":             changed(good, "session_token", "a\r\nX-Other: b"),
		"header in the key":  changed(good, "access_key", "a\nb"),
		"host":               changed(good, "region", "eu.attacker.example/"),
		"long region":        changed(good, "region", strings.Repeat("a", 64)),
		"endpoint":           changed(good, "endpoint", "kms.example"),
		"file":               changed(good, "endpoint", "file:///etc/passwd"),
		"credentials in it":  changed(good, "endpoint", "https://a:b@kms.example"),
		"profile":            changed(good, "shared_creds_profile", "default"),
		"file of profiles":   changed(good, "shared_creds_filename", "/etc/aws/credentials"),
		"identity of a pod":  changed(good, "web_identity_token_file", "/var/run/secrets/token"),
		"role":               changed(good, "role_arn", "arn:aws:iam::111122223333:role/r"),
		"another type's":     changed(good, "token", "x"),
		"no parameters":      {Type: "awskms", Lease: good.Lease, Timeout: good.Timeout},
		"huge":               changed(good, "kms_key_id", strings.Repeat("k", 20<<10)),
		"configured is none": changed(good, "secret_key", "a b"),
	} {
		err := newStore(provider.Surroundings{}).Check(c)
		require.ErrorIs(t, err, provider.ErrInvalid, name)
		require.NotContains(t, err.Error(), providertest.AWSSecretKey, name)
	}
}

// The SDK is built for servers that have credentials of their own. None of them is used, and
// nothing of the environment is in a request.
func TestAWSTakesNothingOfTheServer(t *testing.T) {
	for _, name := range []string{
		"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_REGION", "AWS_DEFAULT_REGION", "AWS_PROFILE",
		"AWS_SHARED_CREDENTIALS_FILE", "AWS_CONFIG_FILE", "AWS_CA_BUNDLE", "AWS_ROLE_ARN", "AWS_WEB_IDENTITY_TOKEN_FILE",
		"AWS_EXECUTION_ENV", "AWS_LAMBDA_FUNCTION_NAME", "_X_AMZN_TRACE_ID", "AWSKMS_WRAPPER_KEY_ID", "VAULT_AWSKMS_SEAL_KEY_ID",
		"AWS_SDK_UA_APP_ID", "AWS_USE_FIPS_ENDPOINT", "AWS_USE_DUALSTACK_ENDPOINT", "AWS_RETRY_MODE",
	} {
		t.Setenv(name, "of-the-server")
	}
	for _, name := range []string{"AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_KMS", "AWS_KMS_ENDPOINT", "AWS_CONTAINER_CREDENTIALS_FULL_URI", "HTTP_PROXY", "HTTPS_PROXY"} {
		t.Setenv(name, "http://127.0.0.1:1/of-the-server")
	}
	aws := providertest.NewAWS()
	require.NoError(t, newStore(provider.Surroundings{Transport: aws}).Try(t.Context(), "own", awsAt(""), nil))
	requests, _ := aws.Requests()
	require.Len(t, requests, 2)
	for _, req := range requests {
		require.Equal(t, "https://kms.eu-central-1.amazonaws.com/", req.URL.String())
		require.Contains(t, req.Header.Get("Authorization"), "Credential="+providertest.AWSAccessKey+"/")
		require.Equal(t, "vault-plugin-dek", req.UserAgent())
		for name, values := range req.Header {
			require.NotContains(t, strings.Join(values, " "), "of-the-server", name)
		}
		require.Empty(t, req.Header.Get("X-Amz-Security-Token"))
	}
}
