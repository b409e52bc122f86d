// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

// Package providertest has key providers for tests.
package providertest

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/tink-crypto/tink-go/v2/aead/subtle"
)

// Token is the one that a Transit takes.
const Token = "hvs.providertest-0123456789"

// Mode is how a Transit answers.
type Mode int

// The modes of a Transit.
const (
	Works    Mode = iota
	Denies        // 403, as without permission
	Gone          // 400, as without a key of that name; encrypt makes one, as for a token that may create
	TooOld        // 400, as below min_decryption_version
	Unmounts      // 404, as without the mount
	Sealed        // 503, as a sealed Vault
	Hangs         // does not answer
	Breaks        // the connection breaks
	Garbage       // answers something else
	OtherKey      // 400, as with another key of that name
	Lies          // answers another plaintext
)

// Transit speaks the wire format of Vault's transit engine. It is an HTTP handler, and a
// transport that hands requests to itself, for tests in fake time.
type Transit struct {
	mode  atomic.Int64
	calls atomic.Int64

	mu  sync.Mutex
	key *subtle.AESGCM
}

// NewTransit returns a Transit that works. All have the same key, as if they were one.
func NewTransit() *Transit {
	key, err := subtle.NewAESGCM([]byte("the key of every Transit of tests"[:32]))
	if err != nil {
		panic(err) // only for a key of another length
	}
	return &Transit{key: key}
}

// Set has all further calls answered in a mode.
func (s *Transit) Set(m Mode) { s.mode.Store(int64(m)) }

// Renew has another key in the place of the key, as when it was deleted and made again.
func (s *Transit) Renew() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.key = newKey()
}

// Calls counts the calls that asked for a key.
func (s *Transit) Calls() int64 { return s.calls.Load() }

// RoundTrip answers a request without a connection.
func (s *Transit) RoundTrip(req *http.Request) (*http.Response, error) {
	if Mode(s.mode.Load()) == Breaks {
		s.calls.Add(1)
		return nil, io.ErrUnexpectedEOF
	}
	rec := httptest.NewRecorder()
	s.ServeHTTP(rec, req)
	if err := req.Context().Err(); err != nil {
		return nil, err
	}
	return rec.Result(), nil
}

// ServeHTTP answers as Vault does.
func (s *Transit) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	if strings.HasSuffix(req.URL.Path, "/auth/token/renew-self") {
		_, _ = io.WriteString(w, `{"auth":{"lease_duration":3600,"renewable":true}}`)
		return
	}
	s.calls.Add(1)
	mode := Mode(s.mode.Load())
	makes := mode == Gone && strings.Contains(req.URL.Path, "/encrypt/")
	if status, said := refusals(mode); status != 0 && !makes {
		refuse(w, status, said)
		return
	}
	switch {
	case mode == Hangs:
		<-req.Context().Done()
	case mode == Garbage:
		_, _ = io.WriteString(w, "<html>it works</html>")
	case req.Header.Get("X-Vault-Token") != Token:
		refuse(w, http.StatusForbidden, "permission denied")
	default:
		s.serve(w, req, mode)
	}
}

func refusals(m Mode) (status int, said string) {
	switch m {
	case Denies:
		return http.StatusForbidden, "1 error occurred:\n\t* permission denied\n\n"
	case Gone:
		return http.StatusBadRequest, "encryption key not found"
	case TooOld:
		return http.StatusBadRequest, "ciphertext or signature version is disallowed by policy (too old)"
	case Unmounts:
		return http.StatusNotFound, `no handler for route "transit/decrypt/dek". route entry not found.`
	case Sealed:
		return http.StatusServiceUnavailable, "Vault is sealed"
	case OtherKey:
		return http.StatusBadRequest, "cipher: message authentication failed"
	}
	return 0, ""
}

func refuse(w http.ResponseWriter, status int, said string) {
	body, _ := json.Marshal(map[string]any{"errors": []string{said}})
	w.WriteHeader(status)
	_, _ = w.Write(body)
}

func (s *Transit) serve(w http.ResponseWriter, req *http.Request, mode Mode) {
	var body struct {
		Plaintext  string `json:"plaintext"`
		Ciphertext string `json:"ciphertext"`
		AD         string `json:"associated_data"`
	}
	if err := json.NewDecoder(req.Body).Decode(&body); err != nil {
		refuse(w, http.StatusBadRequest, "failed to parse JSON input")
		return
	}
	ad, _ := base64.StdEncoding.DecodeString(body.AD)
	s.mu.Lock()
	defer s.mu.Unlock()
	if strings.Contains(req.URL.Path, "/encrypt/") {
		plaintext, _ := base64.StdEncoding.DecodeString(body.Plaintext)
		sealed, err := s.key.Encrypt(plaintext, ad)
		if err != nil {
			refuse(w, http.StatusInternalServerError, "internal error")
			return
		}
		_, _ = fmt.Fprintf(w, `{"data":{"ciphertext":"vault:v1:%s"}}`, base64.StdEncoding.EncodeToString(sealed))
		return
	}
	sealed, _ := base64.StdEncoding.DecodeString(strings.TrimPrefix(body.Ciphertext, "vault:v1:"))
	plaintext, err := s.key.Decrypt(sealed, ad)
	if err != nil {
		refuse(w, http.StatusBadRequest, "cipher: message authentication failed")
		return
	}
	if mode == Lies {
		plaintext[len(plaintext)-1] ^= 1
	}
	_, _ = fmt.Fprintf(w, `{"data":{"plaintext":"%s"}}`, base64.StdEncoding.EncodeToString(plaintext))
}
