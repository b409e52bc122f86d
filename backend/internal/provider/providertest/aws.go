// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package providertest

import (
	"encoding/json"
	"net/http"
	"strings"
	"sync"

	"github.com/tink-crypto/tink-go/v2/aead/subtle"
)

// The credentials and the key that an AWS takes.
const (
	AWSAccessKey = "AKIAPROVIDERTEST0000"
	AWSSecretKey = "providertest-secret-0123456789abcdef"
	AWSSession   = "providertest-session-0123456789"
	AWSKey       = "arn:aws:kms:eu-central-1:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab"
)

// AWS is a server for tests that speaks as much of AWS KMS's protocol (JSON 1.1, signature
// version 4, which it does not check) as wrapping needs, with one key. It is not AWS KMS.
type AWS struct {
	mu       sync.Mutex
	key      *subtle.AESGCM
	answer   *Answer
	requests []*http.Request
	contexts []map[string]string
}

// AWSFailure is an error of AWS KMS, as it says them.
func AWSFailure(status int, code, message string) *Answer {
	body, _ := json.Marshal(map[string]string{"__type": code, "message": message})
	return &Answer{Status: status, Body: string(body)}
}

// NewAWS returns a working AWS.
func NewAWS() *AWS { return &AWS{key: newKey()} }

// Say has all further requests answered so, with nil as they should be.
func (s *AWS) Say(a *Answer) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.answer = a
}

// Requests returns the requests so far, and the encryption context of each.
func (s *AWS) Requests() ([]*http.Request, []map[string]string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.requests, s.contexts
}

// RoundTrip answers a request without a network.
func (s *AWS) RoundTrip(req *http.Request) (*http.Response, error) { return roundTrip(s, req) }

// ServeHTTP answers Encrypt and Decrypt.
func (s *AWS) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	var body struct {
		KeyID          string `json:"KeyId"`
		Plaintext      []byte
		CiphertextBlob []byte
		Context        map[string]string `json:"EncryptionContext"`
	}
	err := json.NewDecoder(req.Body).Decode(&body)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.requests, s.contexts = append(s.requests, req), append(s.contexts, body.Context)
	w.Header().Set("Content-Type", "application/x-amz-json-1.1")
	aad, _ := json.Marshal(body.Context) // sorted
	switch target := req.Header.Get("X-Amz-Target"); {
	case s.answer != nil:
		s.answer.write(w)
	case err != nil || req.Method != http.MethodPost || req.URL.Path != "/":
		AWSFailure(400, "SerializationException", "").write(w)
	case !strings.HasPrefix(req.Header.Get("Authorization"), "AWS4-HMAC-SHA256 Credential="+AWSAccessKey+"/"):
		AWSFailure(400, "UnrecognizedClientException", "The security token included in the request is invalid.").write(w)
	case body.KeyID != AWSKey:
		AWSFailure(400, "NotFoundException", "Key '"+body.KeyID+"' does not exist").write(w)
	case target == "TrentService.Encrypt":
		sealed, _ := s.key.Encrypt(body.Plaintext, aad)
		reply(w, map[string]any{"CiphertextBlob": sealed, "KeyId": AWSKey, "EncryptionAlgorithm": "SYMMETRIC_DEFAULT"})
	case target == "TrentService.Decrypt":
		plaintext, err := s.key.Decrypt(body.CiphertextBlob, aad)
		if err != nil {
			AWSFailure(400, "InvalidCiphertextException", "").write(w)
			return
		}
		reply(w, map[string]any{"Plaintext": plaintext, "KeyId": AWSKey, "EncryptionAlgorithm": "SYMMETRIC_DEFAULT"})
	default:
		AWSFailure(400, "UnknownOperationException", "").write(w)
	}
}
