// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package backend

import (
	"context"

	"github.com/hashicorp/vault/sdk/framework"
	"github.com/hashicorp/vault/sdk/logical"

	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/store"
)

func (b *backend) dekPaths() []*framework.Path {
	answer := ok("The key's versions.", map[string]*framework.FieldSchema{
		"current_version":        described(framework.TypeInt, "The active version."),
		"current_key_id":         described(framework.TypeString, "Its key ID."),
		"min_decryption_version": described(framework.TypeInt, "The least version whose ciphertexts are opened."),
		"versions":               described(framework.TypeSlice, "The versions, oldest first, with their states, times, and how many pages are on each."),
	})
	return []*framework.Path{{
		Pattern: tenantPattern + "/dek$",
		Fields:  map[string]*framework.FieldSchema{"tenant_id": tenantIDField},
		Operations: map[logical.Operation]framework.OperationHandler{
			logical.ReadOperation: b.on(b.readDEK, "read key", "Read the versions of a tenant's key.", answer),
		},
		HelpSynopsis: "A tenant's data-encryption key: its versions.",
		HelpDescription: "Exactly one version is active. A deactivated one still opens what is on it; " +
			"of a destroyed one the key is gone. pages says how many pages of items are on a version.",
	}}
}

func (b *backend) readDEK(ctx context.Context, _ *logical.Request, d *framework.FieldData) (*logical.Response, error) {
	id, err := tenantID(d)
	if err != nil {
		return nil, err
	}
	t, usage, err := b.tenantUsage(ctx, id)
	if err != nil {
		return nil, err
	}
	external, err := b.store.ExternalUse(ctx, t)
	if err != nil {
		return nil, err
	}
	versions := make([]map[string]any, 0, len(t.Keys.Versions))
	for i := range t.Keys.Versions {
		versions = append(versions, versionValue(&t.Keys.Versions[i], usage, external))
	}
	active := t.Keys.Active()
	return &logical.Response{Data: map[string]any{
		"current_version":        active.Number,
		"current_key_id":         active.KeyID,
		"min_decryption_version": t.LeastDecryptable(),
		"versions":               versions,
	}}, nil
}

// tenantUsage reads a tenant's record and counts its pages under the tenant's
// shared lock, so that a rotation does not end between the two.
func (b *backend) tenantUsage(ctx context.Context, id string) (*store.Tenant, store.Usage, error) {
	// The first count reads every page: before the lock, not under it.
	t, err := b.store.ActiveTenant(ctx, id)
	if err != nil {
		return nil, nil, err
	}
	if _, err := b.store.Usage(ctx, t); err != nil {
		return nil, nil, err
	}
	defer b.store.Shared(id)()
	if t, err = b.store.ActiveTenant(ctx, id); err != nil {
		return nil, nil, err
	}
	usage, err := b.store.Usage(ctx, t)
	return t, usage, err
}
