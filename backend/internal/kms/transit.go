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
	"net/url"
	"strings"

	wrapping "github.com/hashicorp/go-kms-wrapping/v2"
)

// Parameters of type transit, as in Vault's seal stanza. The ones for TLS take PEM, where
// the stanza takes the name of a file.
var (
	transitParameters = []string{
		"address", "token", "key_name", "mount_path", "namespace", "disable_renewal",
		"tls_ca_cert", "tls_client_cert", "tls_client_key", "tls_server_name", "tls_skip_verify",
	}
	transitCredentials = []string{"token", "tls_client_key"}
)

const defaultTransitMount = "transit"

// transit is the transit engine of another Vault or OpenBao. vault/api is not used for
// it: its client takes the address, the token, the namespace, headers and the
// certificates of VAULT_… from the environment, which here is the server's.
type transit struct {
	client    *http.Client
	base      *url.URL
	token     string
	namespace string
	mount     string
	key       string
	renewal   *renewal // nil: the token is not renewed
}

func newTransit(s Settings, in Surroundings) (Wrapper, error) {
	p := s.Parameters
	base, err := baseURL(p, "address")
	if err != nil {
		return nil, err
	}
	if err := required(p, "token", "key_name"); err != nil {
		return nil, err
	}
	t := &transit{base: base, token: p["token"], namespace: strings.Trim(p["namespace"], "/"), key: p["key_name"], mount: strings.Trim(p["mount_path"], "/")}
	if t.mount == "" {
		t.mount = defaultTransitMount
	}
	if !isPath(t.mount) || !isPath(t.key) || strings.Contains(t.key, "/") {
		return nil, invalid("mount_path and key_name must be names of a path in Vault")
	}
	if err := printable(p, "token", "namespace"); err != nil {
		return nil, err
	}
	off, err := boolParameter(p, "disable_renewal")
	if err != nil {
		return nil, err
	}
	if !off {
		t.renewal = newRenewal()
	}
	t.client, err = newHTTPClient(p, in.Transport)
	return t, err
}

// isPath reports whether a text names one place and leads to no other.
func isPath(text string) bool {
	if text == "" || strings.ContainsAny(text, "?#%\\") {
		return false
	}
	for part := range strings.SplitSeq(text, "/") {
		if part == "" || part == "." || part == ".." || strings.ContainsFunc(part, func(r rune) bool { return r <= ' ' || r > '~' }) {
			return false
		}
	}
	return true
}

func (t *transit) Encrypt(ctx context.Context, plaintext []byte, opt ...wrapping.Option) (*wrapping.BlobInfo, error) {
	aad, err := aadOf(opt)
	if err != nil {
		return nil, err
	}
	if err := t.findKey(ctx); err != nil {
		return nil, err
	}
	var answer struct {
		Ciphertext string `json:"ciphertext"`
	}
	err = t.call(ctx, t.mount+"/encrypt/"+t.key, map[string]any{
		"plaintext":       base64.StdEncoding.EncodeToString(plaintext),
		"associated_data": base64.StdEncoding.EncodeToString(aad),
	}, &answer)
	if err != nil {
		return nil, err
	}
	// vault:v<version>:<base64>
	parts := strings.SplitN(answer.Ciphertext, ":", 3)
	if len(parts) != 3 {
		return nil, errors.New("the answer has no ciphertext")
	}
	return &wrapping.BlobInfo{Ciphertext: []byte(answer.Ciphertext), KeyInfo: &wrapping.KeyInfo{KeyId: parts[1]}}, nil
}

// noCiphertext has the form of a ciphertext, and no key opens it.
const noCiphertext = "vault:v1:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"

// findKey fails with a [Refusal] if there is no such key. Vault makes one for encrypt where
// the token has the capability create, and that of an owner who has deleted the key must not
// come back so. To open something makes none.
func (t *transit) findKey(ctx context.Context) error {
	err := t.call(ctx, t.mount+"/decrypt/"+t.key, map[string]any{"ciphertext": noCiphertext}, nil)
	var refused *Refusal
	if errors.As(err, &refused) && strings.Contains(refused.Error(), "encryption key not found") {
		return err
	}
	return nil // Vault answers encrypt with any other trouble, too
}

func (t *transit) Decrypt(ctx context.Context, blob *wrapping.BlobInfo, opt ...wrapping.Option) ([]byte, error) {
	aad, err := aadOf(opt)
	if err != nil {
		return nil, err
	}
	var answer struct {
		Plaintext string `json:"plaintext"`
	}
	err = t.call(ctx, t.mount+"/decrypt/"+t.key, map[string]any{
		"ciphertext":      string(blob.GetCiphertext()),
		"associated_data": base64.StdEncoding.EncodeToString(aad),
	}, &answer)
	if err != nil {
		return nil, err
	}
	plaintext, err := base64.StdEncoding.DecodeString(answer.Plaintext)
	if err != nil {
		return nil, errors.New("the answer has no plaintext") // the decoder quotes it
	}
	return plaintext, nil
}

// call writes to a path of Vault, and decodes data of the answer.
func (t *transit) call(ctx context.Context, path string, body, data any) error {
	answer := struct {
		Data any `json:"data"`
	}{data}
	return t.post(ctx, path, body, &answer)
}

func (t *transit) post(ctx context.Context, path string, body, answer any) error {
	encoded, err := json.Marshal(body)
	if err != nil {
		return fmt.Errorf("encoding a request: %w", err)
	}
	defer clear(encoded)
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, t.base.JoinPath("v1", path).String(), bytes.NewReader(encoded))
	if err != nil {
		return fmt.Errorf("making a request: %w", err)
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("X-Vault-Request", "true")
	req.Header.Set("X-Vault-Token", t.token)
	if t.namespace != "" {
		req.Header.Set("X-Vault-Namespace", t.namespace)
	}
	resp, err := t.client.Do(req)
	if err != nil {
		return reachError(err)
	}
	defer func() { _ = resp.Body.Close() }()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		return reachError(err)
	}
	defer clear(text)
	if resp.StatusCode != http.StatusOK {
		return transitError(resp.StatusCode, text)
	}
	if err := json.Unmarshal(text, answer); err != nil {
		return errors.New("the answer is not JSON") // the decoder may quote it
	}
	return nil
}

// transitDenies are the answers, by their status, by which Vault and OpenBao say that a
// key is not to be had any more. A wrong ciphertext may come from another key of that
// name, and says nothing.
var transitDenies = map[int][]string{
	http.StatusForbidden:  {""},
	http.StatusNotFound:   {"no handler for route", "encryption key not found"},
	http.StatusBadRequest: {"encryption key not found", "version is disallowed by policy"},
}

func transitError(status int, body []byte) error {
	var answer struct {
		Errors []string `json:"errors"`
	}
	if json.Unmarshal(body, &answer) != nil || len(answer.Errors) == 0 {
		return fmt.Errorf("status %d", status) // not Vault's: a proxy's, say
	}
	said := strings.Join(answer.Errors, "; ")
	for _, text := range transitDenies[status] {
		if strings.Contains(said, text) {
			return &Refusal{said}
		}
	}
	return fmt.Errorf("status %d: %s", status, said)
}

func (t *transit) Close() { t.client.CloseIdleConnections() }
