// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

//go:build acceptance

package acceptance

import (
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	kms "k8s.io/kms/apis/v2"
)

// TestChaosGates checks that providers behind gates are in the trouble that they are to be in,
// and well afterwards.
func TestChaosGates(t *testing.T) {
	dir, err := os.MkdirTemp("", "dek-kms-")
	require.NoError(t, err)
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	owner := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "mine") }))
	t.Cleanup(owner.Close)
	g := newGate()
	address := guardHTTP(t, g, owner.URL)
	conn, err := grpc.NewClient("unix://"+guardKMS(t, g, newKeyInMemory(t), dir), grpc.WithTransportCredentials(insecure.NewCredentials()))
	require.NoError(t, err)
	t.Cleanup(func() { _ = conn.Close() })
	client := kms.NewKeyManagementServiceClient(conn)
	byHTTP := func(ctx context.Context) string {
		req, err := http.NewRequestWithContext(ctx, http.MethodPost, address, nil) // which is not sent again
		require.NoError(t, err)
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			return "broken"
		}
		defer func() { _ = resp.Body.Close() }()
		body, _ := io.ReadAll(resp.Body)
		if resp.StatusCode != http.StatusOK {
			return resp.Status
		}
		return string(body)
	}
	sealed, err := client.Encrypt(t.Context(), &kms.EncryptRequest{Plaintext: []byte("mine")})
	require.NoError(t, err)
	byKMS := func(ctx context.Context) string {
		answer, err := client.Decrypt(ctx, &kms.DecryptRequest{Ciphertext: sealed.GetCiphertext()})
		if err != nil {
			return err.Error()
		}
		return string(answer.GetPlaintext())
	}
	for _, c := range []struct {
		how       trouble
		http, kms string // a part of what is said
	}{
		{works, "mine", "mine"},
		{delays, "mine", "mine"},
		{gone, "broken", "Unavailable"},
		{denies, "403", "PermissionDenied"},
		{garbage, "", "another key"},
		{hangs, "broken", "Unavailable"},
	} {
		for name, ask := range map[string]struct {
			call func(context.Context) string
			want string
		}{"http": {byHTTP, c.http}, "kms": {byKMS, c.kms}} {
			t.Run(string(c.how)+"/"+name, func(t *testing.T) {
				g.set(c.how, 1)
				before := g.met(c.how)
				answer := make(chan string, 1)
				go func() { answer <- ask.call(t.Context()) }()
				if c.how == hangs {
					require.NoError(t, until(recoveryLimit, func() bool { return g.met(hangs) > before }))
					require.Empty(t, answer)
					g.set(works, 0)
				}
				said := <-answer
				assert.Contains(t, said, ask.want)
				assert.Equal(t, c.how == works || c.how == delays, said == "mine")
				assert.Greater(t, g.met(c.how), before)
				g.set(works, 0)
				assert.Equal(t, "mine", ask.call(t.Context()))
			})
		}
	}
}
