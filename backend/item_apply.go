// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package backend

import (
	"context"

	"github.com/hashicorp/vault/sdk/logical"

	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/itemstore"
)

// apply makes changes to a tenant's items.
func (b *backend) apply(ctx context.Context, tenantID string, ops ...*itemstore.Op) error {
	b.limiter.Touch(b.now())
	return b.items.Write(ctx, tenantID, ops...)
}

// applyOne makes one change and answers with the new revision.
func (b *backend) applyOne(ctx context.Context, tenant string, op *itemstore.Op) (*logical.Response, error) {
	if err := b.apply(ctx, tenant, op); err != nil {
		return nil, err
	}
	if op.Err != nil || op.Item == nil {
		return nil, op.Err
	}
	return &logical.Response{Data: map[string]any{"revision": op.Item.Revision}}, nil
}
