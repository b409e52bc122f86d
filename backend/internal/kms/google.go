// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package kms

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"regexp"
	"slices"
	"strings"

	"cloud.google.com/go/kms/apiv1/kmspb"
	wrapping "github.com/hashicorp/go-kms-wrapping/v2"
	"golang.org/x/oauth2/google"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/oauth"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
)

// Parameters of type gcpckms, as in Vault's seal stanza, but that credentials is the key of
// a service account itself, where the stanza takes the name of a file.
var (
	googleParameters  = []string{"credentials", "project", "region", "key_ring", "crypto_key"}
	googleCredentials = []string{"credentials"}
)

const (
	googleHost     = "cloudkms.googleapis.com"
	googleUniverse = "googleapis.com"
)

// googleName is a part of a key's name. A project may be one of a domain: example.com:name.
var googleName = regexp.MustCompile(`^[A-Za-z0-9]([A-Za-z0-9._:-]{0,98}[A-Za-z0-9_-])?$`)

// googleKMS is a key of Google Cloud KMS.
type googleKMS struct {
	conn   *grpc.ClientConn
	client kmspb.KeyManagementServiceClient
	key    string
}

func newGoogle(s Settings, in Surroundings) (Wrapper, error) {
	p := s.Parameters
	if err := required(p, googleParameters...); err != nil {
		return nil, err
	}
	for _, name := range googleParameters[1:] {
		if !googleName.MatchString(p[name]) {
			return nil, invalid("%s must be a name, and not the path of one", name)
		}
	}
	account, err := serviceAccount(p["credentials"])
	if err != nil {
		return nil, err
	}
	target := "dns:///" + googleHost
	options := append(grpcOptions(),
		grpc.WithTransportCredentials(credentials.NewTLS(&tls.Config{MinVersion: tls.VersionTLS12, RootCAs: in.Roots})),
		grpc.WithPerRPCCredentials(account), grpc.WithUserAgent(userAgent), grpc.WithDisableServiceConfig())
	if in.Dial != nil {
		target = "passthrough:///" + googleHost
		options = append(options, grpc.WithContextDialer(in.Dial))
	}
	conn, err := grpc.NewClient(target, options...)
	if err != nil {
		return nil, fmt.Errorf("setting up a connection: %w", err)
	}
	return &googleKMS{
		conn: conn, client: kmspb.NewKeyManagementServiceClient(conn),
		key: fmt.Sprintf("projects/%s/locations/%s/keyRings/%s/cryptoKeys/%s", p["project"], p["region"], p["key_ring"], p["crypto_key"]),
	}, nil
}

// serviceAccount signs a token of its own for each hour, which Google's services take
// (AIP-4111): no other address is asked for one, though the key of the account names some.
func serviceAccount(key string) (credentials.PerRPCCredentials, error) {
	var of struct {
		Universe string `json:"universe_domain"`
	}
	if json.Unmarshal([]byte(key), &of) != nil {
		return nil, invalid("credentials must be the key of a service account, in JSON: files are not read")
	}
	if of.Universe != "" && of.Universe != googleUniverse {
		return nil, invalid("credentials must be of %s", googleUniverse)
	}
	source, err := google.JWTAccessTokenSourceFromJSON([]byte(key), "https://"+googleHost+"/")
	if err != nil { // it may quote the key
		return nil, invalid("credentials must be the key of a service account, in JSON, with type, client_email and private_key")
	}
	return oauth.TokenSource{TokenSource: source}, nil
}

// routed says which key a call is for, by which Google finds the location.
func (k *googleKMS) routed(ctx context.Context) context.Context {
	return metadata.AppendToOutgoingContext(ctx, "x-goog-request-params", "name="+url.QueryEscape(k.key))
}

func (k *googleKMS) Encrypt(ctx context.Context, plaintext []byte, opt ...wrapping.Option) (*wrapping.BlobInfo, error) {
	aad, err := aadOf(opt)
	if err != nil {
		return nil, err
	}
	answer, err := k.client.Encrypt(k.routed(ctx), &kmspb.EncryptRequest{Name: k.key, Plaintext: plaintext, AdditionalAuthenticatedData: aad})
	if err != nil {
		return nil, googleError(err)
	}
	if len(answer.GetCiphertext()) == 0 {
		return nil, errors.New("the answer has no ciphertext")
	}
	return &wrapping.BlobInfo{Ciphertext: answer.GetCiphertext(), KeyInfo: &wrapping.KeyInfo{KeyId: answer.GetName()}}, nil
}

func (k *googleKMS) Decrypt(ctx context.Context, blob *wrapping.BlobInfo, opt ...wrapping.Option) ([]byte, error) {
	aad, err := aadOf(opt)
	if err != nil {
		return nil, err
	}
	answer, err := k.client.Decrypt(k.routed(ctx), &kmspb.DecryptRequest{Name: k.key, Ciphertext: blob.GetCiphertext(), AdditionalAuthenticatedData: aad})
	if err != nil {
		return nil, googleError(err)
	}
	return answer.GetPlaintext(), nil
}

// googleDenies are the reasons of PERMISSION_DENIED that say that the permission, or the
// whole service, was withdrawn. Others are of a perimeter, of billing, or of a quota.
var googleDenies = []string{"", "IAM_PERMISSION_DENIED", "SERVICE_DISABLED"}

// googleEnded are the states of a key's version that its owner brings about.
var googleEnded = []string{"DISABLED", "DESTROYED", "DESTROY_SCHEDULED"}

func googleError(err error) error {
	s := status.Convert(err)
	said := fmt.Sprintf("%s: %s", s.Code(), s.Message())
	denied := false
	switch s.Code() {
	case codes.PermissionDenied:
		denied = slices.Contains(googleDenies, reasonOf(s))
	case codes.NotFound:
		denied = true
	case codes.Unauthenticated: // or a clock
		denied = reasonOf(s) == "ACCOUNT_STATE_INVALID"
	case codes.FailedPrecondition:
		_, state, _ := strings.Cut(s.Message(), "current state is: ")
		denied = slices.Contains(googleEnded, strings.Trim(state, " ."))
	case codes.DeadlineExceeded:
		return errors.New("no answer within the timeout")
	}
	if denied {
		return &Refusal{said}
	}
	return errors.New(said)
}

// reasonOf returns why a service of Google refused a call, empty if it does not say.
func reasonOf(s *status.Status) string {
	for _, detail := range s.Details() {
		if info, ok := detail.(*errdetails.ErrorInfo); ok {
			return info.GetReason()
		}
	}
	return ""
}

func (k *googleKMS) Renew(context.Context) {}

func (k *googleKMS) Close() { _ = k.conn.Close() }
