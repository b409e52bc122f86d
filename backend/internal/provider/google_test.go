// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package provider_test

import (
	"context"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/protoadapt"

	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/provider"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/provider/providertest"
)

func googleOf(t *testing.T, g *providertest.Google) provider.Config {
	t.Helper()
	return provider.Config{
		Type: "gcpckms", Lease: provider.DefaultLease, Timeout: provider.MaxTimeout,
		Parameters: map[string]string{
			"credentials": g.Credentials(t, nil), "project": "owner", "region": "europe-west3", "key_ring": "vault", "crypto_key": "dek",
		},
	}
}

func TestGoogleWrapsAndOpens(t *testing.T) {
	g := providertest.NewGoogle(t)
	wrapsAndOpens(t, newStore(provider.Surroundings{Dial: g.Dial, Roots: g.Roots}), googleOf(t, g))
}

// What Google Cloud KMS says of the key: denied only where nothing else can be meant.
func TestGoogleAnswers(t *testing.T) {
	version := providertest.GoogleKey + "/cryptoKeyVersions/1"
	plain := func(code codes.Code, message string) error { return status.Error(code, message) }
	with := func(code codes.Code, message string, detail protoadapt.MessageV1) error {
		s, err := status.New(code, message).WithDetails(detail)
		require.NoError(t, err)
		return s.Err()
	}
	reason := func(code codes.Code, reason, message string) error {
		return with(code, message, &errdetails.ErrorInfo{Reason: reason, Domain: "googleapis.com"})
	}
	state := func(state, kind string) error {
		return with(codes.FailedPrecondition, version+" is not enabled, current state is: "+state+".",
			&errdetails.PreconditionFailure{Violations: []*errdetails.PreconditionFailure_Violation{{Type: kind, Subject: version}}})
	}
	const may = "Permission 'cloudkms.cryptoKeyVersions.useToDecrypt' denied on resource '" + providertest.GoogleKey + "' (or it may not exist)."
	g := providertest.NewGoogle(t)
	s := newStore(provider.Surroundings{Dial: g.Dial, Roots: g.Roots})
	require.NoError(t, s.Put(t.Context(), "own", googleOf(t, g), nil))
	for name, test := range map[string]struct {
		say  error
		want error
	}{
		"no permission":           {plain(codes.PermissionDenied, may), provider.ErrDenied},
		"no permission of IAM":    {reason(codes.PermissionDenied, "IAM_PERMISSION_DENIED", may), provider.ErrDenied},
		"the API is disabled":     {reason(codes.PermissionDenied, "SERVICE_DISABLED", "Cloud Key Management Service (KMS) API has not been used in project owner before or it is disabled."), provider.ErrDenied},
		"no such key":             {plain(codes.NotFound, "CryptoKey "+providertest.GoogleKey+" not found."), provider.ErrDenied},
		"version disabled":        {state("DISABLED", "KEY_DISABLED"), provider.ErrDenied},
		"version destroyed":       {state("DESTROYED", "KEY_DESTROYED"), provider.ErrDenied},
		"version to be destroyed": {state("DESTROY_SCHEDULED", "KEY_DESTROY_SCHEDULED"), provider.ErrDenied},
		"account disabled":        {reason(codes.Unauthenticated, "ACCOUNT_STATE_INVALID", "Request had invalid authentication credentials."), provider.ErrDenied},

		"version is made":      {state("PENDING_GENERATION", "KEY_PENDING_GENERATION"), provider.ErrUnavailable},
		"another precondition": {plain(codes.FailedPrecondition, "The request cannot be fulfilled. Resource '"+providertest.GoogleKey+"' has no primary version."), provider.ErrUnavailable},
		"perimeter":            {reason(codes.PermissionDenied, "SECURITY_POLICY_VIOLATED", "Request is prohibited by organization's policy."), provider.ErrUnavailable},
		"billing":              {reason(codes.PermissionDenied, "BILLING_DISABLED", "This API method requires billing to be enabled."), provider.ErrUnavailable},
		"token or clock":       {plain(codes.Unauthenticated, "Request had invalid authentication credentials."), provider.ErrUnavailable},
		"quota":                {reason(codes.ResourceExhausted, "RATE_LIMIT_EXCEEDED", "Quota exceeded for quota metric 'Cryptographic requests'"), provider.ErrUnavailable},
		"other ciphertext":     {plain(codes.InvalidArgument, "Decryption failed: the ciphertext is invalid."), provider.ErrUnavailable},
		"external key manager": {plain(codes.FailedPrecondition, "The EKM returned an error."), provider.ErrUnavailable},
		"out of reach":         {plain(codes.Unavailable, "The service is currently unavailable."), provider.ErrUnavailable},
		"internal":             {plain(codes.Internal, "Internal error encountered."), provider.ErrUnavailable},
		"too slow":             {plain(codes.DeadlineExceeded, "Deadline exceeded"), provider.ErrUnavailable},
		"unknown":              {plain(codes.Unknown, "PERMISSION_DENIED"), provider.ErrUnavailable},
		"aborted":              {plain(codes.Aborted, ""), provider.ErrUnavailable},
	} {
		g.Fail(test.say)
		err := s.Probe(t.Context(), "own")
		require.ErrorIs(t, err, test.want, name)
		require.NotContains(t, err.Error(), "PRIVATE KEY", name)
		g.Fail(nil)
		require.NoError(t, s.Probe(t.Context(), "own"), name)
	}
}

// A connection that breaks, is refused, or leads to another server, is out of reach.
func TestGoogleIsOutOfReach(t *testing.T) {
	g := providertest.NewGoogle(t)
	for name, in := range map[string]provider.Surroundings{
		"refused":        {Roots: g.Roots, Dial: func(context.Context, string) (net.Conn, error) { return nil, os.ErrClosed }},
		"another server": {Roots: providertest.NewGoogle(t).Roots, Dial: g.Dial},
	} {
		require.ErrorIs(t, newStore(in).Try(t.Context(), "own", googleOf(t, g), nil), provider.ErrUnavailable, name)
	}
	own := googleOf(t, g)
	own = changed(own, "credentials", providertest.NewGoogle(t).Credentials(t, nil))
	err := newStore(provider.Surroundings{Dial: g.Dial, Roots: g.Roots}).Try(t.Context(), "own", own, nil)
	require.ErrorIs(t, err, provider.ErrUnavailable, "another account's key")
	require.ErrorContains(t, err, "Unauthenticated")
}

// A service that does not answer costs the timeout.
func TestGoogleIsAskedWithinTheTimeout(t *testing.T) {
	c := googleOf(t, providertest.NewGoogle(t))
	synctest.Test(t, func(t *testing.T) {
		s := newStore(provider.Surroundings{Dial: func(ctx context.Context, _ string) (net.Conn, error) {
			<-ctx.Done()
			return nil, ctx.Err()
		}})
		require.NoError(t, s.Put(t.Context(), "own", c, nil))
		began := time.Now()
		err := s.Probe(t.Context(), "own")
		require.ErrorIs(t, err, provider.ErrUnavailable)
		require.LessOrEqual(t, time.Since(began), c.Timeout)
		require.NoError(t, s.Delete(t.Context(), "own"))
	})
}

func TestGoogleSettingsThatAreRefused(t *testing.T) {
	g := providertest.NewGoogle(t)
	good := googleOf(t, g)
	s := newStore(provider.Surroundings{})
	require.NoError(t, s.Check(good))
	require.NoError(t, s.Check(changed(good, "project", "example.com:owner", "region", "global")))
	file := filepath.Join(t.TempDir(), "key.json")
	require.NoError(t, os.WriteFile(file, []byte(g.Credentials(t, nil)), 0o600))
	for name, c := range map[string]provider.Config{
		"no credentials":    changed(good, "credentials", ""),
		"file":              changed(good, "credentials", file),
		"not JSON":          changed(good, "credentials", "{"),
		"null":              changed(good, "credentials", "null"),
		"empty":             changed(good, "credentials", "{}"),
		"a person's":        changed(good, "credentials", g.Credentials(t, map[string]string{"type": "authorized_user"})),
		"another program":   changed(good, "credentials", g.Credentials(t, map[string]string{"type": "external_account"})),
		"no private key":    changed(good, "credentials", g.Credentials(t, map[string]string{"private_key": "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----"})),
		"another universe":  changed(good, "credentials", g.Credentials(t, map[string]string{"universe_domain": "attacker.example"})),
		"no project":        changed(good, "project", ""),
		"no region":         changed(good, "region", ""),
		"no key ring":       changed(good, "key_ring", ""),
		"no key":            changed(good, "crypto_key", ""),
		"path":              changed(good, "crypto_key", "dek/cryptoKeyVersions/1"),
		"another key":       changed(good, "crypto_key", "../../other/cryptoKeys/k"),
		"dots":              changed(good, "region", ".."),
		"line":              changed(good, "project", "a\nb"),
		"long":              changed(good, "key_ring", strings.Repeat("k", 200)),
		"unicode":           changed(good, "key_ring", "schlüssel"),
		"another type's":    changed(good, "kms_key_id", "x"),
		"name of the agent": changed(good, "user_agent", "x"),
	} {
		err := s.Check(c)
		require.ErrorIs(t, err, provider.ErrInvalid, name)
		require.NotContains(t, err.Error(), "PRIVATE KEY", name)
	}
}

// Nothing of the server's environment is used: neither its credentials nor its proxy.
func TestGoogleTakesNothingOfTheServer(t *testing.T) {
	for _, name := range []string{
		"GOOGLE_CREDENTIALS", "GOOGLE_APPLICATION_CREDENTIALS", "GOOGLE_PROJECT", "GOOGLE_REGION", "GCPCKMS_WRAPPER_KEY_RING",
		"VAULT_GCPCKMS_SEAL_KEY_RING", "GCPCKMS_WRAPPER_CRYPTO_KEY", "VAULT_GCPCKMS_SEAL_CRYPTO_KEY", "GCE_METADATA_HOST",
		"GOOGLE_CLOUD_PROJECT", "GOOGLE_CLOUD_UNIVERSE_DOMAIN", "GOOGLE_API_USE_MTLS_ENDPOINT", "HTTPS_PROXY", "https_proxy", "ALL_PROXY",
	} {
		t.Setenv(name, "http://127.0.0.1:1/of-the-server")
	}
	g := providertest.NewGoogle(t)
	require.NoError(t, newStore(provider.Surroundings{Dial: g.Dial, Roots: g.Roots}).Try(t.Context(), "own", googleOf(t, g), nil))
	for name, values := range g.Metadata() {
		require.NotContains(t, strings.Join(values, " "), "of-the-server", name)
	}
	require.Contains(t, strings.Join(g.Metadata()["user-agent"], ""), "vault-plugin-dek")
}
