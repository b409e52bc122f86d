// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package backend

import (
	"context"
	"slices"

	"github.com/hashicorp/vault/sdk/logical"

	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/itemstore"
)

// opsUnderLock is how many changes of a bulk write are made under the tenant's
// lock at a time: who waits to take it exclusively does not wait for all. A request
// that finds no page makes all at once, since each page is then written once; should
// another come first, it holds the lock for as many changes page by page.
const opsUnderLock = 5000

// apply makes changes, some at a time.
func (b *backend) apply(ctx context.Context, tenant string, ops ...*itemstore.Op) error {
	b.foreground.touch(b.now())
	atOnce := opsUnderLock
	if len(ops) > opsUnderLock {
		t, err := b.tenants.Active(ctx, tenant)
		if err != nil {
			return err
		}
		empty, err := b.items.HasNoPages(ctx, t)
		if err != nil {
			return err
		}
		if empty {
			atOnce = len(ops)
		}
		// Neighbours in storage together, so that a page is written once.
		if ops, err = b.items.InOrder(ctx, t, ops); err != nil {
			return err
		}
	}
	for some := range slices.Chunk(ops, atOnce) {
		if err := b.applySome(ctx, tenant, some); err != nil {
			return err
		}
	}
	return nil
}

// applySome makes changes under the tenant's shared lock, held from reading the
// record until they are stored.
func (b *backend) applySome(ctx context.Context, tenant string, ops []*itemstore.Op) error {
	defer b.tenants.Shared(tenant)()
	t, err := b.tenants.Active(ctx, tenant)
	if err != nil {
		return err
	}
	b.items.Apply(ctx, t, ops...)
	return nil
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
