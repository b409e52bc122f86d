// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package kms

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"path"
	"regexp"
	"strings"

	wrapping "github.com/hashicorp/go-kms-wrapping/v2"
)

// Parameters of type azurekeyvault, as in Vault's seal stanza.
var (
	azureParameters  = []string{"tenant_id", "client_id", "client_secret", "environment", "vault_name", "key_name", "resource"}
	azureCredentials = []string{"client_secret"}
)

const (
	azureVersion   = "7.4" // of the API
	azureAlgorithm = "RSA-OAEP-256"
	envelopeIV     = 12
)

var (
	azureName     = regexp.MustCompile(`^[A-Za-z0-9-]{1,127}$`)
	azureHost     = regexp.MustCompile(`^[A-Za-z0-9]([A-Za-z0-9.-]{0,251}[A-Za-z0-9])?$`)
	azureRevision = regexp.MustCompile(`^[A-Za-z0-9]{1,64}$`)
)

// azure is an RSA key of Azure Key Vault or of a managed HSM. It has no associated data and
// takes a few bytes only. So it wraps a fresh key, under which what is wrapped is sealed
// together with the associated data, as Vault's seal does it. Azure's client is not used: it
// takes the address for tokens from the answer of the service, and panics on a malformed one.
type azure struct {
	client *http.Client
	token  *azureToken
	keys   string // the URL of the key, without a version, with a slash at its end
}

func newAzure(s Settings, in Surroundings) (Wrapper, error) {
	p := s.Parameters
	if err := required(p, "tenant_id", "client_id", "client_secret", "vault_name", "key_name"); err != nil {
		return nil, err
	}
	cloud, known := azureClouds[strings.ToUpper(p["environment"])]
	resource := p["resource"]
	if resource == "" {
		resource = cloud.keys
	}
	switch {
	case !known:
		return nil, invalid("environment must be AzurePublicCloud, AzureUSGovernmentCloud or AzureChinaCloud")
	case !azureHost.MatchString(p["tenant_id"]):
		return nil, invalid("tenant_id must be the ID of a tenant, or a domain of its")
	case !azureName.MatchString(p["vault_name"]) || !azureName.MatchString(p["key_name"]):
		return nil, invalid("vault_name and key_name must be names of letters, digits and -")
	case !azureHost.MatchString(resource) || !strings.Contains(resource, "."):
		return nil, invalid("resource must be the domain of key vaults, such as %s", cloud.keys)
	}
	client, err := newHTTPClient(nil, in.Transport)
	if err != nil {
		return nil, err
	}
	return &azure{
		client: client, token: newAzureToken(p, cloud, resource, client),
		keys: "https://" + p["vault_name"] + "." + resource + "/keys/" + p["key_name"] + "/",
	}, nil
}

// Encrypt wraps under the latest version of the key, and keeps which that is.
func (k *azure) Encrypt(ctx context.Context, plaintext []byte, opt ...wrapping.Option) (*wrapping.BlobInfo, error) {
	aad, err := aadOf(opt)
	if err != nil {
		return nil, err
	}
	envelope, err := wrapping.EnvelopeEncrypt(plaintext, wrapping.WithAad(aad))
	if err != nil {
		return nil, fmt.Errorf("sealing: %w", err)
	}
	defer clear(envelope.Key)
	wrapped, kid, err := k.call(ctx, "wrapkey", envelope.Key)
	if err != nil {
		return nil, err
	}
	version := path.Base(kid)
	if len(wrapped) == 0 || !azureRevision.MatchString(version) {
		return nil, errors.New("the answer has no value or no kid")
	}
	return &wrapping.BlobInfo{
		Ciphertext: envelope.Ciphertext, Iv: envelope.Iv, KeyInfo: &wrapping.KeyInfo{KeyId: version, WrappedKey: wrapped},
	}, nil
}

// Decrypt unwraps under the version that has wrapped.
func (k *azure) Decrypt(ctx context.Context, blob *wrapping.BlobInfo, opt ...wrapping.Option) ([]byte, error) {
	aad, err := aadOf(opt)
	if err != nil {
		return nil, err
	}
	version := blob.GetKeyInfo().GetKeyId()
	if !azureRevision.MatchString(version) || len(blob.GetIv()) != envelopeIV { // another length panics
		return nil, errors.New("the wrapped KEK is malformed")
	}
	key, _, err := k.call(ctx, version+"/unwrapkey", blob.GetKeyInfo().GetWrappedKey())
	if err != nil {
		return nil, err
	}
	defer clear(key)
	plaintext, err := wrapping.EnvelopeDecrypt(&wrapping.EnvelopeInfo{Key: key, Iv: blob.GetIv(), Ciphertext: blob.GetCiphertext()}, wrapping.WithAad(aad))
	if err != nil {
		return nil, errors.New("the answer does not open what was wrapped")
	}
	return plaintext, nil
}

// call has the key wrap or unwrap a value. The path is that of an operation, with the version
// before it if it is not the latest's.
func (k *azure) call(ctx context.Context, path string, value []byte) (result []byte, kid string, err error) {
	token, err := k.token.get(ctx)
	if err != nil {
		return nil, "", err
	}
	body, err := json.Marshal(map[string]string{"alg": azureAlgorithm, "value": base64.RawURLEncoding.EncodeToString(value)})
	if err != nil {
		return nil, "", fmt.Errorf("encoding a request: %w", err)
	}
	defer clear(body)
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, k.keys+path+"?api-version="+azureVersion, bytes.NewReader(body))
	if err != nil {
		return nil, "", fmt.Errorf("making a request: %w", err)
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("User-Agent", userAgent)
	req.Header.Set("Authorization", "Bearer "+token)
	resp, err := k.client.Do(req)
	if err != nil {
		return nil, "", reachError(err)
	}
	defer func() { _ = resp.Body.Close() }()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		return nil, "", reachError(err)
	}
	defer clear(text)
	if resp.StatusCode != http.StatusOK {
		return nil, "", azureError(resp.StatusCode, text)
	}
	var answer struct{ Kid, Value string }
	if json.Unmarshal(text, &answer) != nil {
		return nil, "", errors.New("the answer is not JSON") // the decoder may quote it
	}
	result, err = base64.RawURLEncoding.DecodeString(strings.TrimRight(answer.Value, "="))
	if err != nil {
		return nil, "", errors.New("the answer has no value") // the decoder quotes it
	}
	return result, answer.Kid, nil
}

func (k *azure) Renew(context.Context) {}

func (k *azure) Close() { k.client.CloseIdleConnections() }
