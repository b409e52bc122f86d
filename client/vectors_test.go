// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package client

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	_ "embed"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

//go:embed testdata/vectors.json
var vectorsJSON []byte

// vector is an envelope or a file, with the data key that the engine would answer
// for key_text.
type vector struct {
	Name            string `json:"name"`
	Kind            string `json:"kind,omitempty"`
	DataKey         string `json:"data_key"`
	KeyText         string `json:"key_text"`
	AssociatedData  string `json:"associated_data"`
	Plaintext       string `json:"plaintext,omitempty"`
	PlaintextSHA256 string `json:"plaintext_sha256,omitempty"`
	Envelope        string `json:"envelope,omitempty"`
	File            []byte `json:"file,omitempty"`
}

type vectors struct {
	Envelopes []vector `json:"envelopes"`
	Files     []vector `json:"files"`
}

// knows is a tenant of an engine that knows one data key, and answers it to
// whoever asks for a new one or has it opened with this label.
func (v *vector) knows(t *testing.T, label string) *Tenant {
	t.Helper()
	key, err := hex.DecodeString(v.DataKey)
	require.NoError(t, err)
	version, err := VersionOf(v.KeyText)
	require.NoError(t, err)
	body, err := json.Marshal(map[string]any{"data": map[string]any{
		"ciphertext": v.KeyText, "key_version": version, "plaintext": key, "lease": 60,
		"batch_results": []map[string]any{{"plaintext": key}},
	}})
	require.NoError(t, err)
	c, s := scripted(t, reply{status: 200, body: string(body)})
	t.Cleanup(func() {
		for _, request := range s.seen {
			asked := request.body
			if batch, isBatch := asked["batch_input"].([]any); isBatch {
				asked, _ = batch[0].(map[string]any)
				assert.Equal(t, v.KeyText, asked["ciphertext"])
			}
			assert.Equal(t, base64.StdEncoding.EncodeToString([]byte(label)), asked["associated_data"])
		}
	})
	return tenantOf(t, c)
}

func (v *vector) bytes(t *testing.T) (plaintext, ad []byte) {
	t.Helper()
	plaintext, err := hex.DecodeString(v.Plaintext)
	require.NoError(t, err)
	ad, err = hex.DecodeString(v.AssociatedData)
	require.NoError(t, err)
	return plaintext, ad
}

// The vectors were made by testdata/vectors.mjs, which shares no code with this.
func TestVectors(t *testing.T) {
	var all vectors
	require.NoError(t, json.Unmarshal(vectorsJSON, &all))
	require.NotEmpty(t, all.Envelopes)
	require.NotEmpty(t, all.Files)
	for _, v := range all.Envelopes {
		t.Run("envelope of "+v.Name, func(t *testing.T) {
			plaintext, ad := v.bytes(t)
			got, err := closing(t, v.knows(t, dataKeyLabel).AEAD()).Decrypt([]byte(v.Envelope), ad)
			require.NoError(t, err)
			assert.Equal(t, string(plaintext), string(got))
		})
	}
	for _, v := range all.Files {
		t.Run("file of "+v.Name, func(t *testing.T) {
			plaintext, ad := v.bytes(t)
			r, err := v.knows(t, fileKeyLabel).DecryptStream(t.Context(), bytes.NewReader(v.File), ad)
			require.NoError(t, err)
			got, err := io.ReadAll(r)
			require.NoError(t, err)
			assert.Equal(t, string(plaintext), string(got))
		})
	}
}

// The engine's own vectors, which are by yet another implementation.
func TestEnginesVectors(t *testing.T) {
	text, err := os.ReadFile("../backend/internal/keyring/testdata/envelopes.json")
	require.NoError(t, err)
	var all struct {
		Envelopes []struct {
			Version        int    `json:"version"`
			DataKey        string `json:"data_key"`
			Key            string `json:"key"`
			AssociatedData []byte `json:"associated_data"`
			Plaintext      []byte `json:"plaintext"`
			Envelope       string `json:"envelope"`
		} `json:"envelopes"`
		Malformed []struct{ Comment, Text string } `json:"malformed"`
	}
	require.NoError(t, json.Unmarshal(text, &all))
	require.NotEmpty(t, all.Envelopes)
	for _, v := range all.Envelopes {
		known := vector{DataKey: v.DataKey, KeyText: fmt.Sprintf("dek:v%d:%s", v.Version, v.Key)}
		got, err := closing(t, known.knows(t, dataKeyLabel).AEAD()).Decrypt([]byte(v.Envelope), v.AssociatedData)
		require.NoError(t, err)
		assert.Equal(t, string(v.Plaintext), string(got))
	}
	require.NotEmpty(t, all.Malformed)
	for _, v := range all.Malformed {
		_, err := parse(v.Text)
		assert.ErrorIs(t, err, ErrMalformed, v.Comment)
	}
}

// node runs testdata/vectors.mjs.
func node(t *testing.T, input any, args ...string) []byte {
	t.Helper()
	bin, err := exec.LookPath("node")
	if err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatal("node is missing: the other implementation of envelopes and files did not run")
		}
		t.Skip("node is missing: the other implementation of envelopes and files did not run")
	}
	encoded, err := json.Marshal(input)
	require.NoError(t, err)
	cmd := exec.CommandContext(t.Context(), bin, append([]string{"testdata/vectors.mjs"}, args...)...)
	cmd.Stdin = bytes.NewReader(encoded)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	require.NoError(t, err, "%s", stderr.String())
	return out
}

func TestVectorsAreWhatNodeMakes(t *testing.T) {
	assert.Equal(t, string(vectorsJSON), string(node(t, nil, "make")))
}

// fresh is a vector to be sealed, with random bytes.
func fresh(name string, size int) (v vector, plaintext []byte) {
	key, sealed, ad := make([]byte, 32), make([]byte, 72), make([]byte, 5)
	plaintext = make([]byte, size)
	for _, b := range [][]byte{key, sealed, ad, plaintext} {
		_, _ = rand.Read(b) // never fails
	}
	digest := sha256.Sum256(plaintext)
	return vector{
		Name: name, DataKey: hex.EncodeToString(key), AssociatedData: hex.EncodeToString(ad),
		KeyText:         "dek:v12:" + base64.StdEncoding.EncodeToString(sealed),
		PlaintextSHA256: hex.EncodeToString(digest[:]),
	}, plaintext
}

// sizes of files at the borders of their segments: the first has a header of 40
// bytes in it, and each a tag of 16.
var sizes = []int{0, 1<<20 - 57, 1<<20 - 56, 1<<20 - 55, 2<<20 - 72, 2<<20 - 71}

// What this package seals, the other implementation opens.
func TestNodeOpensWhatIsSealedHere(t *testing.T) {
	var all vectors
	for _, size := range sizes {
		v, plaintext := fresh(fmt.Sprint("envelope of ", size), size)
		_, ad := v.bytes(t)
		sealed, err := closing(t, v.knows(t, dataKeyLabel).AEAD()).Encrypt(plaintext, ad)
		require.NoError(t, err)
		v.Envelope = string(sealed)
		all.Envelopes = append(all.Envelopes, v)

		v, plaintext = fresh(fmt.Sprint("file of ", size), size)
		_, ad = v.bytes(t)
		v.File = sealedFile(t, v.knows(t, fileKeyLabel), plaintext, ad)
		all.Files = append(all.Files, v)
	}
	node(t, all, "check")
}

// What the other implementation seals, this package opens.
func TestOpensWhatNodeSeals(t *testing.T) {
	var cases []vector
	var requests []map[string]any
	var plaintexts [][]byte
	for _, kind := range []string{"envelope", "file"} {
		for _, size := range sizes {
			v, plaintext := fresh(fmt.Sprint(kind, " of ", size), size)
			v.Kind = kind
			cases, plaintexts = append(cases, v), append(plaintexts, plaintext)
			requests = append(requests, map[string]any{
				"kind": kind, "data_key": v.DataKey, "key_text": v.KeyText,
				"associated_data": v.AssociatedData, "plaintext": plaintext,
			})
		}
	}
	var sealed [][]byte
	require.NoError(t, json.Unmarshal(node(t, requests, "seal"), &sealed))
	require.Len(t, sealed, len(cases))
	for i, v := range cases {
		_, ad := v.bytes(t)
		var got []byte
		var err error
		if v.Kind == "envelope" {
			got, err = closing(t, v.knows(t, dataKeyLabel).AEAD()).Decrypt(sealed[i], ad)
		} else {
			got, err = readStream(t, v.knows(t, fileKeyLabel), sealed[i], ad)
		}
		require.NoError(t, err, v.Name)
		require.True(t, bytes.Equal(plaintexts[i], got), v.Name)
	}
}

func sealedFile(t *testing.T, tenant *Tenant, plaintext, ad []byte) []byte {
	t.Helper()
	var out bytes.Buffer
	w, err := tenant.EncryptStream(context.WithoutCancel(t.Context()), &out, ad)
	require.NoError(t, err)
	_, err = w.Write(plaintext)
	require.NoError(t, err)
	require.NoError(t, w.Close())
	return out.Bytes()
}
