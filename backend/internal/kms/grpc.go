// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package kms

import (
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
)

// grpcOptions are those of every connection of gRPC. It takes no proxy of the environment,
// and is made again within seconds once the service is back.
func grpcOptions() []grpc.DialOption {
	again := backoff.DefaultConfig
	again.MaxDelay = 5 * time.Second
	return []grpc.DialOption{
		grpc.WithNoProxy(),
		grpc.WithConnectParams(grpc.ConnectParams{Backoff: again, MinConnectTimeout: 20 * time.Second}),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(maxAnswerBytes)),
	}
}
