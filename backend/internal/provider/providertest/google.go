// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package providertest

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"math/big"
	"net"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"cloud.google.com/go/kms/apiv1/kmspb"
	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"
	"github.com/stretchr/testify/require"
	"github.com/tink-crypto/tink-go/v2/aead/subtle"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
)

const (
	googleHost    = "cloudkms.googleapis.com"
	googleAccount = "dek@providertest.iam.gserviceaccount.com"
	// GoogleKey is the key that a Google has.
	GoogleKey = "projects/owner/locations/europe-west3/keyRings/vault/cryptoKeys/dek"
)

// Google is a server for tests that serves as much of Google Cloud KMS's API as wrapping
// needs, by Google's own definitions, with one key, over TLS. It takes the tokens of one
// service account. It is not Google Cloud KMS.
type Google struct {
	kmspb.UnimplementedKeyManagementServiceServer
	Roots *x509.CertPool // by which it is trusted

	address string
	account *rsa.PrivateKey
	key     *subtle.AESGCM

	mu   sync.Mutex
	fail error
	with metadata.MD
}

// NewGoogle serves a Google until the test ends.
func NewGoogle(t *testing.T) *Google {
	t.Helper()
	account, err := rsa.GenerateKey(rand.Reader, 2048)
	require.NoError(t, err)
	g := &Google{Roots: x509.NewCertPool(), account: account, key: newKey()}
	listener, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	require.NoError(t, err)
	g.address = listener.Addr().String()
	server := grpc.NewServer(grpc.Creds(credentials.NewServerTLSFromCert(g.certificate(t))))
	kmspb.RegisterKeyManagementServiceServer(server, g)
	go func() { _ = server.Serve(listener) }()
	t.Cleanup(server.Stop)
	return g
}

func (g *Google) certificate(t *testing.T) *tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: googleHost}, DNSNames: []string{googleHost},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	require.NoError(t, err)
	leaf, err := x509.ParseCertificate(der)
	require.NoError(t, err)
	g.Roots.AddCert(leaf)
	return &tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

// Dial reaches the server, whatever the address, which has to be Google's.
func (g *Google) Dial(ctx context.Context, address string) (net.Conn, error) {
	if !strings.HasPrefix(address, googleHost) {
		return nil, &net.AddrError{Err: "no such host", Addr: address}
	}
	return new(net.Dialer).DialContext(ctx, "tcp", g.address)
}

// Credentials returns the key of the service account, as Google's console gives it, with
// what is changed of it.
func (g *Google) Credentials(t *testing.T, changes map[string]string) string {
	t.Helper()
	der, err := x509.MarshalPKCS8PrivateKey(g.account)
	require.NoError(t, err)
	key := map[string]string{ // #nosec G101 -- the key was made a moment ago
		"type": "service_account", "project_id": "owner", "private_key_id": "providertest", "client_email": googleAccount,
		"private_key": string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})),
		"token_uri":   "http://127.0.0.1:1/token",
	}
	for name, value := range changes {
		key[name] = value
	}
	text, err := json.Marshal(key)
	require.NoError(t, err)
	return string(text)
}

// Fail has all further calls fail, with nil none.
func (g *Google) Fail(err error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.fail = err
}

// Metadata returns that of the latest call.
func (g *Google) Metadata() metadata.MD {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.with
}

// admit checks what a call comes with.
func (g *Google) admit(ctx context.Context, name string) error {
	with, _ := metadata.FromIncomingContext(ctx)
	g.mu.Lock()
	defer g.mu.Unlock()
	g.with = with
	if g.fail != nil {
		return g.fail
	}
	bearer := strings.TrimPrefix(strings.Join(with["authorization"], ""), "Bearer ")
	token, err := jwt.ParseSigned(bearer, []jose.SignatureAlgorithm{jose.RS256})
	var claims jwt.Claims
	if err != nil || token.Claims(g.account.Public(), &claims) != nil ||
		claims.Validate(jwt.Expected{Issuer: googleAccount, Subject: googleAccount, AnyAudience: jwt.Audience{"https://" + googleHost + "/"}, Time: time.Now()}) != nil {
		return status.Error(codes.Unauthenticated, "Request had invalid authentication credentials.")
	}
	if strings.Join(with["x-goog-request-params"], "") != "name="+url.QueryEscape(name) {
		return status.Error(codes.InvalidArgument, "The request was routed to another location.")
	}
	if name != GoogleKey {
		return status.Error(codes.NotFound, "CryptoKey "+name+" not found.")
	}
	return nil
}

// Encrypt seals under the key.
func (g *Google) Encrypt(ctx context.Context, req *kmspb.EncryptRequest) (*kmspb.EncryptResponse, error) {
	if err := g.admit(ctx, req.GetName()); err != nil {
		return nil, err
	}
	sealed, err := g.key.Encrypt(req.GetPlaintext(), req.GetAdditionalAuthenticatedData())
	return &kmspb.EncryptResponse{Name: GoogleKey + "/cryptoKeyVersions/1", Ciphertext: sealed}, err
}

// Decrypt opens what Encrypt sealed.
func (g *Google) Decrypt(ctx context.Context, req *kmspb.DecryptRequest) (*kmspb.DecryptResponse, error) {
	if err := g.admit(ctx, req.GetName()); err != nil {
		return nil, err
	}
	plaintext, err := g.key.Decrypt(req.GetCiphertext(), req.GetAdditionalAuthenticatedData())
	if err != nil {
		return nil, status.Error(codes.InvalidArgument, "Decryption failed: verify that 'name' refers to the correct CryptoKey.")
	}
	return &kmspb.DecryptResponse{Plaintext: plaintext}, nil
}
