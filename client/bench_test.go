// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package client

import (
	"bytes"
	"io"
	"testing"

	"github.com/stretchr/testify/require"
	"github.com/tink-crypto/tink-go/v2/streamingaead/subtle"

	"github.com/vault-plugin-dek/vault-plugin-dek/client/clienttest"
)

// benchTenant is a tenant of an engine in memory.
func benchTenant(b *testing.B) *Tenant {
	b.Helper()
	e := clienttest.New()
	e.CreateTenant(tenantID)
	vault, err := e.Vault()
	require.NoError(b, err)
	c, err := New(vault)
	require.NoError(b, err)
	tenant, err := c.Tenant(tenantID)
	require.NoError(b, err)
	return tenant
}

// 200 bytes, sealed and opened as envelopes, beside the bare AEAD in a loop.
func BenchmarkEnvelope(b *testing.B) {
	a := benchTenant(b).AEAD()
	defer func() { require.NoError(b, a.Close()) }()
	bare, err := tinkXAES(make([]byte, keyBytes))
	require.NoError(b, err)
	plaintext, ad := make([]byte, 200), []byte("cards/7")
	text, err := a.Encrypt(plaintext, ad)
	require.NoError(b, err)
	sealed, err := bare.Encrypt(plaintext, ad)
	require.NoError(b, err)
	for name, f := range map[string]func() ([]byte, error){
		"seal":      func() ([]byte, error) { return a.Encrypt(plaintext, ad) },
		"seal/bare": func() ([]byte, error) { return bare.Encrypt(plaintext, ad) },
		"open":      func() ([]byte, error) { return a.Decrypt(text, ad) },
		"open/bare": func() ([]byte, error) { return bare.Decrypt(sealed, ad) },
	} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := f(); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// A batch of a thousand texts of one data key.
func BenchmarkRewrap(b *testing.B) {
	e := clienttest.New()
	e.CreateTenant(tenantID)
	vault, err := e.Vault()
	require.NoError(b, err)
	c, err := New(vault)
	require.NoError(b, err)
	tenant, err := c.Tenant(tenantID)
	require.NoError(b, err)
	a := tenant.AEAD()
	defer func() { require.NoError(b, a.Close()) }()
	texts := make([]Ciphertext, 1000)
	for i := range texts {
		text, err := a.Encrypt(make([]byte, 200), nil)
		require.NoError(b, err)
		texts[i].Ciphertext = string(text)
	}
	e.Rotate(tenantID)
	for b.Loop() {
		if _, err := a.Rewrap(b.Context(), texts); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.N)*float64(len(texts))/b.Elapsed().Seconds(), "texts/s")
}

// 64 MiB as a file, beside Tink's stream alone.
func BenchmarkStream(b *testing.B) {
	tenant := benchTenant(b)
	content := make([]byte, 64<<20)
	bare, err := subtle.NewAESGCMHKDF(make([]byte, 32), streamHash, streamKeySize, streamSegment, 0)
	require.NoError(b, err)
	for name, open := range map[string]func(io.Writer) (io.WriteCloser, error){
		"file": func(w io.Writer) (io.WriteCloser, error) { return tenant.EncryptStream(b.Context(), w, nil) },
		"tink": func(w io.Writer) (io.WriteCloser, error) { return bare.NewEncryptingWriter(w, nil) },
	} {
		b.Run(name, func(b *testing.B) {
			b.SetBytes(int64(len(content)))
			for b.Loop() {
				w, err := open(io.Discard)
				require.NoError(b, err)
				_, err = io.Copy(w, bytes.NewReader(content))
				require.NoError(b, err)
				require.NoError(b, w.Close())
			}
		})
	}
}
