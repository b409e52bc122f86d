// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package vault

import (
	"context"
	"net/http"
)

// Trace is what Vault may put into its audit log about the request that a call is
// made for. Neither field is a secret.
type Trace struct {
	RequestID     string
	ClientAddress string // an IP address; empty: not known
}

type traceKey struct{}

// WithTrace returns a context whose calls tell Vault about the request.
func WithTrace(ctx context.Context, t Trace) context.Context {
	return context.WithValue(ctx, traceKey{}, t)
}

// setHeaders names the request that the call is made for.
func setHeaders(ctx context.Context, h http.Header) {
	t, ok := ctx.Value(traceKey{}).(Trace)
	if !ok {
		return
	}
	if t.RequestID != "" {
		h.Set("X-Request-Id", t.RequestID)
	}
	if t.ClientAddress != "" {
		h.Set("X-Forwarded-For", t.ClientAddress)
	}
}
