// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package kms

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"regexp"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	awskms "github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/smithy-go"
	"github.com/aws/smithy-go/middleware"
	smithyhttp "github.com/aws/smithy-go/transport/http"
	wrapping "github.com/hashicorp/go-kms-wrapping/v2"
)

// Parameters of type awskms, as in Vault's seal stanza. The ones that name a file or a
// role of the instance are not there.
var (
	awsParameters  = []string{"region", "access_key", "secret_key", "session_token", "kms_key_id", "endpoint"}
	awsCredentials = []string{"access_key", "secret_key", "session_token"}
)

const defaultAWSRegion = "us-east-1" // Vault's

// A region is a part of the host that the credentials are for.
var awsRegion = regexp.MustCompile(`^[a-z0-9]([a-z0-9-]{0,30}[a-z0-9])?$`)

// awsKMS is a key of AWS KMS. It has an encryption context, which the owner finds in the
// logs of CloudTrail, and can name in the key's policy.
type awsKMS struct {
	client *awskms.Client
	http   *http.Client
	key    string
}

func newAWS(s Settings, in Surroundings) (Wrapper, error) {
	p := s.Parameters
	if err := required(p, "access_key", "secret_key", "kms_key_id"); err != nil {
		return nil, err
	}
	if err := printable(p, "access_key", "secret_key", "session_token", "kms_key_id"); err != nil {
		return nil, err
	}
	region := p["region"]
	if region == "" {
		region = defaultAWSRegion
	}
	if !awsRegion.MatchString(region) {
		return nil, invalid("region must be the name of a region, such as %s", defaultAWSRegion)
	}
	options := awskms.Options{
		Region:     region,
		Retryer:    aws.NopRetryer{}, // the engine asks again
		APIOptions: []func(*middleware.Stack) error{withoutEnvironment},
		Credentials: aws.CredentialsProviderFunc(func(context.Context) (aws.Credentials, error) {
			return aws.Credentials{AccessKeyID: p["access_key"], SecretAccessKey: p["secret_key"], SessionToken: p["session_token"]}, nil
		}),
	}
	if p["endpoint"] != "" {
		endpoint, err := baseURL(p, "endpoint")
		if err != nil {
			return nil, err
		}
		options.BaseEndpoint = aws.String(endpoint.String())
	}
	client, err := newHTTPClient(nil, in.Transport)
	if err != nil {
		return nil, err
	}
	options.HTTPClient = client
	return &awsKMS{client: awskms.New(options), http: client, key: p["kms_key_id"]}, nil
}

// withoutEnvironment takes out of a request what the SDK reads in the environment:
// AWS_EXECUTION_ENV for the name of the client, and the ID of a trace of Lambda.
func withoutEnvironment(stack *middleware.Stack) error {
	for _, id := range []string{"UserAgent", "RecursionDetection"} {
		if _, found := stack.Build.Get(id); !found {
			continue
		}
		if _, err := stack.Build.Remove(id); err != nil {
			return fmt.Errorf("setting up a request: %w", err)
		}
	}
	return smithyhttp.SetHeaderValue("User-Agent", userAgent)(stack)
}

func (k *awsKMS) Encrypt(ctx context.Context, plaintext []byte, opt ...wrapping.Option) (*wrapping.BlobInfo, error) {
	where, err := contextOf(opt)
	if err != nil {
		return nil, err
	}
	answer, err := k.client.Encrypt(ctx, &awskms.EncryptInput{KeyId: &k.key, Plaintext: plaintext, EncryptionContext: where})
	if err != nil {
		return nil, awsError(err)
	}
	if len(answer.CiphertextBlob) == 0 {
		return nil, errors.New("the answer has no ciphertext")
	}
	return &wrapping.BlobInfo{Ciphertext: answer.CiphertextBlob, KeyInfo: &wrapping.KeyInfo{KeyId: aws.ToString(answer.KeyId)}}, nil
}

// Decrypt names the key, so that nothing opens that another key has wrapped.
func (k *awsKMS) Decrypt(ctx context.Context, blob *wrapping.BlobInfo, opt ...wrapping.Option) ([]byte, error) {
	where, err := contextOf(opt)
	if err != nil {
		return nil, err
	}
	answer, err := k.client.Decrypt(ctx, &awskms.DecryptInput{KeyId: &k.key, CiphertextBlob: blob.GetCiphertext(), EncryptionContext: where})
	if err != nil {
		return nil, awsError(err)
	}
	return answer.Plaintext, nil
}

// awsDenies are the errors, by their code, by which AWS says that a key is not to be had
// any more, and what one of their messages has in it. KMSInvalidStateException is of a key
// that waits for its deletion, of one whose imported material was deleted, and of one whose
// key store is out of reach, which says nothing. A signature that does not match may come
// from a clock.
var awsDenies = map[string][]string{
	"AccessDeniedException":       {""},
	"DisabledException":           {""},
	"NotFoundException":           {""},
	"KMSInvalidStateException":    {"pending deletion", "pending replica deletion", "pending import"},
	"UnrecognizedClientException": {""}, // the access key was deactivated or deleted
	"InvalidClientTokenId":        {""},
	"ExpiredTokenException":       {""},
}

func awsError(err error) error {
	var said smithy.APIError
	var answer *smithyhttp.ResponseError
	switch {
	case !errors.As(err, &answer) || answer.HTTPStatusCode() == 0:
		return reachError(err)
	case !errors.As(err, &said):
		return fmt.Errorf("status %d: the answer is not one of AWS KMS", answer.HTTPStatusCode()) // the decoder may quote it
	}
	text := fmt.Sprintf("%s: %s", said.ErrorCode(), said.ErrorMessage())
	if status := answer.HTTPStatusCode(); status < 400 || status > 499 {
		return fmt.Errorf("status %d: %s", status, text)
	}
	for _, part := range awsDenies[said.ErrorCode()] {
		if strings.Contains(said.ErrorMessage(), part) {
			return &Refusal{text}
		}
	}
	return errors.New(text)
}

func (k *awsKMS) Renew(context.Context) {}

func (k *awsKMS) Close() { k.http.CloseIdleConnections() }
