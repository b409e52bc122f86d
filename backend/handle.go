// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package backend

import (
	"context"
	"errors"

	"github.com/hashicorp/vault/sdk/logical"

	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/api"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/api/providers"
)

// HandleRequest is the framework's, except that it answers a value of the wrong type
// without repeating it, and an operation that a path does not have with those that it
// has; that its OpenAPI document survives the way to Vault; and that it takes the
// parameters of a key provider as text, too.
func (b *backend) HandleRequest(ctx context.Context, req *logical.Request) (*logical.Response, error) {
	resp, err := b.Backend.HandleRequest(ctx, providers.Decoded(req))
	if errors.Is(err, logical.ErrUnsupportedOperation) {
		return nil, api.UnsupportedError(b.Route(req.Path), req.Operation)
	}
	if err != nil {
		return resp, err
	}
	if field := api.Mistyped(resp); field != "" {
		if err := b.absentOf(ctx, req); err != nil {
			return api.Answer(err)
		}
		return nil, api.MistypedError(b.Route(req.Path), field)
	}
	if req.Operation == logical.HelpOperation {
		return resp, api.KeepReferences(resp)
	}
	return resp, nil
}
