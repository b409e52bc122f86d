// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package providertest

import (
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"

	"github.com/tink-crypto/tink-go/v2/aead/subtle"
	"github.com/tink-crypto/tink-go/v2/subtle/random"
)

// Answer is what a server says instead of its own.
type Answer struct {
	Status int
	Header http.Header
	Body   string
}

func (a *Answer) write(w http.ResponseWriter) {
	for name, values := range a.Header {
		w.Header()[name] = values
	}
	w.WriteHeader(a.Status)
	_, _ = io.WriteString(w, a.Body)
}

func reply(w http.ResponseWriter, body any) {
	_ = json.NewEncoder(w).Encode(body)
}

// roundTrip has a handler answer without a network.
func roundTrip(h http.Handler, req *http.Request) (*http.Response, error) {
	if err := req.Context().Err(); err != nil {
		return nil, err
	}
	if req.Body == nil {
		req.Body = http.NoBody
	}
	recorder := httptest.NewRecorder()
	h.ServeHTTP(recorder, req)
	return recorder.Result(), nil
}

func newKey() *subtle.AESGCM {
	key, err := subtle.NewAESGCM(random.GetRandomBytes(32))
	if err != nil {
		panic(err) // only for a key of another length
	}
	return key
}
