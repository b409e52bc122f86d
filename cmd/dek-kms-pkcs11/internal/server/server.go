// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

// Package server serves the Kubernetes KMS API, version 2, with the keys of a token.
package server

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	kms "k8s.io/kms/apis/v2"

	"github.com/vault-plugin-dek/vault-plugin-dek/cmd/dek-kms-pkcs11/internal/token"
)

const (
	// maxMessage bounds a request: what is encrypted has at most 4 KiB.
	maxMessage = 16 << 10
	// maxStreams bounds the requests of one connection at a time.
	maxStreams = 64
	// maxUID bounds what is logged of a request's uid.
	maxUID = 64
)

// Token has the keys. Its errors are those of package token.
type Token interface {
	KeyID(ctx context.Context) (string, error)
	Encrypt(ctx context.Context, plaintext []byte) (token.Sealed, error)
	Decrypt(ctx context.Context, sealed token.Sealed) ([]byte, error)
}

// New returns a server. A request ends with the timeout.
func New(t Token, timeout time.Duration, log *slog.Logger) *grpc.Server {
	s := grpc.NewServer(
		grpc.MaxRecvMsgSize(maxMessage), grpc.MaxConcurrentStreams(maxStreams), grpc.ConnectionTimeout(timeout),
		grpc.UnaryInterceptor(func(ctx context.Context, req any, info *grpc.UnaryServerInfo, handle grpc.UnaryHandler) (any, error) {
			ctx, cancel := context.WithTimeout(ctx, timeout)
			defer cancel()
			answer, err := handle(ctx, req)
			if err != nil {
				log.Warn("request failed", "method", info.FullMethod, "uid", uid(req), "error", err)
				return nil, status.Error(code(err), err.Error())
			}
			return answer, nil
		}),
	)
	kms.RegisterKeyManagementServiceServer(s, &service{token: t})
	return s
}

// uid returns what a request is called by its client.
func uid(req any) string {
	named, ok := req.(interface{ GetUid() string })
	if !ok {
		return ""
	}
	return named.GetUid()[:min(len(named.GetUid()), maxUID)]
}

// code returns gRPC's code of an error. PERMISSION_DENIED and NOT_FOUND mean that the owner
// of the key has withdrawn it, and nothing else.
func code(err error) codes.Code {
	switch {
	case errors.Is(err, token.ErrDenied):
		return codes.PermissionDenied
	case errors.Is(err, token.ErrNoKey):
		return codes.NotFound
	case errors.Is(err, token.ErrInvalid):
		return codes.InvalidArgument
	}
	return codes.Unavailable
}

type service struct {
	kms.UnimplementedKeyManagementServiceServer
	token Token
}

// Status returns the key_id of the key that encrypts now. A token that cannot be used is an
// error, as it is of Encrypt.
func (s *service) Status(ctx context.Context, _ *kms.StatusRequest) (*kms.StatusResponse, error) {
	id, err := s.token.KeyID(ctx)
	if err != nil {
		return nil, err
	}
	return &kms.StatusResponse{Version: "v2", Healthz: "ok", KeyId: id}, nil
}

// Encrypt encrypts under the current key.
func (s *service) Encrypt(ctx context.Context, req *kms.EncryptRequest) (*kms.EncryptResponse, error) {
	sealed, err := s.token.Encrypt(ctx, req.GetPlaintext())
	if err != nil {
		return nil, err
	}
	return &kms.EncryptResponse{Ciphertext: sealed.Ciphertext, KeyId: sealed.KeyID}, nil
}

// Decrypt opens what Encrypt returned, as long as its key is on the token.
func (s *service) Decrypt(ctx context.Context, req *kms.DecryptRequest) (*kms.DecryptResponse, error) {
	plaintext, err := s.token.Decrypt(ctx, token.Sealed{Ciphertext: req.GetCiphertext(), KeyID: req.GetKeyId()})
	if err != nil {
		return nil, err
	}
	return &kms.DecryptResponse{Plaintext: plaintext}, nil
}
