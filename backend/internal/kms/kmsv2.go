// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package kms

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"

	wrapping "github.com/hashicorp/go-kms-wrapping/v2"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	kms "k8s.io/kms/apis/v2"

	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/keyring"
)

// kmsv2 is a plugin of the Kubernetes KMS API, version 2, that serves a Unix socket. Its
// API has no associated data.
type kmsv2 struct {
	conn   *grpc.ClientConn
	client kms.KeyManagementServiceClient
}

func newKMSv2(s Settings, in Surroundings) (Wrapper, error) {
	socket, err := socketBelow(in.Sockets, s.Socket)
	if err != nil {
		return nil, err
	}
	conn, err := grpc.NewClient("unix://"+socket, append(grpcOptions(), grpc.WithTransportCredentials(insecure.NewCredentials()))...)
	if err != nil {
		return nil, invalid("socket must be the path of a Unix socket")
	}
	return &kmsv2{conn: conn, client: kms.NewKeyManagementServiceClient(conn)}, nil
}

// socketBelow returns the path of a socket, if it lies below the directory of sockets, by
// way of no link that leads out of it.
func socketBelow(sockets, socket string) (string, error) {
	switch {
	case sockets == "":
		return "", invalid("type kmsv2 needs a directory of sockets in the plugin's arguments: -provider-sockets")
	case !filepath.IsAbs(socket) || filepath.Clean(socket) != socket:
		return "", invalid("socket must be an absolute path")
	}
	root, err := filepath.EvalSymlinks(sockets)
	if err != nil {
		return "", invalid("the directory of sockets in the plugin's arguments does not exist")
	}
	found, err := filepath.EvalSymlinks(socket)
	if err != nil {
		if !below(filepath.Clean(sockets), socket) {
			return "", errOutside
		}
		return "", fmt.Errorf("%w: socket does not exist", ErrInvalid)
	}
	if !below(root, found) {
		return "", errOutside
	}
	return found, nil
}

var errOutside = invalid("socket must lie below the directory of sockets that the plugin's arguments name")

func below(root, path string) bool {
	rel, err := filepath.Rel(root, path)
	return err == nil && rel != "." && rel != ".." && !strings.HasPrefix(rel, ".."+string(filepath.Separator))
}

// Encrypt keeps the whole answer, which Decrypt needs: beside the ciphertext the ID of
// the key and annotations.
func (k *kmsv2) Encrypt(ctx context.Context, plaintext []byte, _ ...wrapping.Option) (*wrapping.BlobInfo, error) {
	uid, err := keyring.NewID("")
	if err != nil {
		return nil, err
	}
	answer, err := k.client.Encrypt(ctx, &kms.EncryptRequest{Plaintext: plaintext, Uid: uid})
	if err != nil {
		return nil, kmsError(err)
	}
	if len(answer.GetCiphertext()) == 0 || answer.GetKeyId() == "" {
		return nil, errors.New("the answer has no ciphertext or no key_id")
	}
	encoded, err := proto.Marshal(answer)
	if err != nil {
		return nil, errors.New("the answer cannot be stored")
	}
	return &wrapping.BlobInfo{Ciphertext: encoded, KeyInfo: &wrapping.KeyInfo{KeyId: answer.GetKeyId()}}, nil
}

func (k *kmsv2) Decrypt(ctx context.Context, blob *wrapping.BlobInfo, _ ...wrapping.Option) ([]byte, error) {
	stored := new(kms.EncryptResponse)
	if err := proto.Unmarshal(blob.GetCiphertext(), stored); err != nil {
		return nil, errors.New("the wrapped KEK is malformed")
	}
	uid, err := keyring.NewID("")
	if err != nil {
		return nil, err
	}
	answer, err := k.client.Decrypt(ctx, &kms.DecryptRequest{
		Ciphertext: stored.GetCiphertext(), Uid: uid, KeyId: stored.GetKeyId(), Annotations: stored.GetAnnotations(),
	})
	if err != nil {
		return nil, kmsError(err)
	}
	return answer.GetPlaintext(), nil
}

// kmsError tells a denial by the code of gRPC. The API does not say which codes a plugin
// uses: only those are taken for a denial that mean nothing else.
func kmsError(err error) error {
	s := status.Convert(err)
	said := fmt.Sprintf("%s: %s", s.Code(), s.Message())
	switch s.Code() {
	case codes.PermissionDenied, codes.NotFound:
		return &Refusal{said}
	case codes.DeadlineExceeded:
		return errors.New("no answer within the timeout")
	default:
		return errors.New(said)
	}
}

func (k *kmsv2) Renew(context.Context) {}

func (k *kmsv2) Close() { _ = k.conn.Close() }
