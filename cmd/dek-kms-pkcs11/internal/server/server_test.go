// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package server_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	kms "k8s.io/kms/apis/v2"

	"github.com/vault-plugin-dek/vault-plugin-dek/cmd/dek-kms-pkcs11/internal/server"
	"github.com/vault-plugin-dek/vault-plugin-dek/cmd/dek-kms-pkcs11/internal/token"
	"github.com/vault-plugin-dek/vault-plugin-dek/internal/syncbuf"
)

// fake has a key_id, or fails, or does not answer.
type fake struct {
	fail  error
	hangs bool
}

func (f *fake) KeyID(ctx context.Context) (string, error) {
	if f.hangs {
		<-ctx.Done()
		return "", fmt.Errorf("%w: no answer", token.ErrUnavailable)
	}
	return "key-1", f.fail
}

func (f *fake) Encrypt(_ context.Context, plaintext []byte) (token.Sealed, error) {
	return token.Sealed{Ciphertext: append([]byte("sealed "), plaintext...), KeyID: "key-1"}, f.fail
}

func (f *fake) Decrypt(_ context.Context, sealed token.Sealed) ([]byte, error) {
	if sealed.KeyID != "key-1" {
		return nil, token.ErrNoKey
	}
	return []byte(strings.TrimPrefix(string(sealed.Ciphertext), "sealed ")), f.fail
}

func serve(t *testing.T, f *fake, timeout time.Duration) (kms.KeyManagementServiceClient, *syncbuf.Buffer) {
	t.Helper()
	dir, err := os.MkdirTemp("", "dek-kms-")
	require.NoError(t, err)
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	socket := filepath.Join(dir, "kms.sock")
	l, err := new(net.ListenConfig).Listen(t.Context(), "unix", socket)
	require.NoError(t, err)
	log := new(syncbuf.Buffer)
	s := server.New(f, timeout, slog.New(slog.NewJSONHandler(log, nil)))
	go func() { _ = s.Serve(l) }()
	t.Cleanup(s.Stop)
	conn, err := grpc.NewClient("unix://"+socket, grpc.WithTransportCredentials(insecure.NewCredentials()))
	require.NoError(t, err)
	t.Cleanup(func() { _ = conn.Close() })
	return kms.NewKeyManagementServiceClient(conn), log
}

func TestServes(t *testing.T) {
	client, _ := serve(t, &fake{}, time.Minute)
	is, err := client.Status(t.Context(), &kms.StatusRequest{})
	require.NoError(t, err)
	require.Equal(t, []string{"v2", "ok", "key-1"}, []string{is.GetVersion(), is.GetHealthz(), is.GetKeyId()})
	sealed, err := client.Encrypt(t.Context(), &kms.EncryptRequest{Plaintext: []byte("a"), Uid: "1"})
	require.NoError(t, err)
	require.Equal(t, "key-1", sealed.GetKeyId())
	opened, err := client.Decrypt(t.Context(), &kms.DecryptRequest{Ciphertext: sealed.GetCiphertext(), KeyId: sealed.GetKeyId(), Uid: "2"})
	require.NoError(t, err)
	require.Equal(t, "a", string(opened.GetPlaintext()))
	_, err = client.Decrypt(t.Context(), &kms.DecryptRequest{Ciphertext: sealed.GetCiphertext(), KeyId: "key-2"})
	require.Equal(t, codes.NotFound, status.Code(err))
}

// The codes are those that the engine's provider kmsv2 tells a denial by.
func TestCodes(t *testing.T) {
	f := &fake{}
	client, log := serve(t, f, time.Minute)
	for fail, want := range map[error]codes.Code{
		token.ErrDenied: codes.PermissionDenied, token.ErrNoKey: codes.NotFound, token.ErrInvalid: codes.InvalidArgument,
		token.ErrUnavailable: codes.Unavailable, errors.New("else"): codes.Unavailable,
	} {
		f.fail = fmt.Errorf("%w: why", fail)
		_, err := client.Status(t.Context(), &kms.StatusRequest{})
		require.Equal(t, want, status.Code(err))
		require.ErrorContains(t, err, "why")
		_, err = client.Encrypt(t.Context(), &kms.EncryptRequest{Plaintext: []byte("secret"), Uid: strings.Repeat("u", 100)})
		require.Equal(t, want, status.Code(err))
		_, err = client.Decrypt(t.Context(), &kms.DecryptRequest{Ciphertext: []byte("secret"), KeyId: "key-1"})
		require.Equal(t, want, status.Code(err))
	}
	require.NotContains(t, log.String(), "secret")
	require.Contains(t, log.String(), strings.Repeat("u", 64))
	require.NotContains(t, log.String(), strings.Repeat("u", 65))
}

func TestBounds(t *testing.T) {
	client, _ := serve(t, &fake{}, time.Minute)
	_, err := client.Encrypt(t.Context(), &kms.EncryptRequest{Plaintext: make([]byte, 17<<10)})
	require.Equal(t, codes.ResourceExhausted, status.Code(err))
	client, _ = serve(t, &fake{hangs: true}, 50*time.Millisecond)
	_, err = client.Status(t.Context(), &kms.StatusRequest{})
	require.Equal(t, codes.Unavailable, status.Code(err), "the request ends with the server's timeout")
}
