// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package providertest

import (
	"context"
	"net"
	"path/filepath"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
	"github.com/tink-crypto/tink-go/v2/aead/subtle"
	"github.com/tink-crypto/tink-go/v2/subtle/random"
	"google.golang.org/grpc"
	kms "k8s.io/kms/apis/v2"
)

// KMS is a plugin of the Kubernetes KMS API, version 2.
type KMS struct {
	kms.UnimplementedKeyManagementServiceServer
	Socket string

	mu   sync.Mutex
	fail error
	key  *subtle.AESGCM
}

// NewKMS serves a KMS on a socket in dir until the test ends.
func NewKMS(t *testing.T, dir string) *KMS {
	t.Helper()
	key, err := subtle.NewAESGCM(random.GetRandomBytes(32))
	require.NoError(t, err)
	k := &KMS{Socket: filepath.Join(dir, "kms.sock"), key: key}
	listener, err := (&net.ListenConfig{}).Listen(t.Context(), "unix", k.Socket)
	require.NoError(t, err)
	server := grpc.NewServer()
	kms.RegisterKeyManagementServiceServer(server, k)
	go func() { _ = server.Serve(listener) }()
	t.Cleanup(server.Stop)
	return k
}

// Fail has all further calls fail, with nil none.
func (k *KMS) Fail(err error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.fail = err
}

// Encrypt needs the annotations that it answers in Decrypt again.
func (k *KMS) Encrypt(_ context.Context, req *kms.EncryptRequest) (*kms.EncryptResponse, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.fail != nil {
		return nil, k.fail
	}
	note := random.GetRandomBytes(8)
	sealed, err := k.key.Encrypt(req.GetPlaintext(), note)
	return &kms.EncryptResponse{
		Ciphertext: sealed, KeyId: "key-1", Annotations: map[string][]byte{"note.kms.example": note},
	}, err
}

// Decrypt opens what Encrypt sealed.
func (k *KMS) Decrypt(_ context.Context, req *kms.DecryptRequest) (*kms.DecryptResponse, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.fail != nil {
		return nil, k.fail
	}
	plaintext, err := k.key.Decrypt(req.GetCiphertext(), req.GetAnnotations()["note.kms.example"])
	return &kms.DecryptResponse{Plaintext: plaintext}, err
}
