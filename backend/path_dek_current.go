// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package backend

import (
	"context"

	"github.com/hashicorp/vault/sdk/framework"
	"github.com/hashicorp/vault/sdk/logical"

	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/api"
)

// currentDEKPaths are for applications: a policy can open them without opening
// what dek says of each version.
func (b *backend) currentDEKPaths() []*framework.Path {
	answer := api.OK("The version that seals.", map[string]*framework.FieldSchema{
		"current_version":        api.Described(framework.TypeInt, "The active version."),
		"min_decryption_version": api.Described(framework.TypeInt, "The least version whose ciphertexts are opened."),
	})
	return []*framework.Path{{
		Pattern: api.TenantPattern + "/dek/current$",
		Fields:  map[string]*framework.FieldSchema{"tenant_id": api.TenantIDField},
		Operations: map[logical.Operation]framework.OperationHandler{
			logical.ReadOperation: b.On(b.readCurrentDEK, "read current-key", "Read which version of a tenant's key seals.", answer),
		},
		HelpSynopsis: "Which version of a tenant's key seals, and from which on ciphertexts open.",
		HelpDescription: "For applications, which rewrap what they keep that is not of the current version. It reads no " +
			"more than the tenant's record.",
	}}
}

func (b *backend) readCurrentDEK(ctx context.Context, _ *logical.Request, d *framework.FieldData) (*logical.Response, error) {
	id, err := api.TenantID(d)
	if err != nil {
		return nil, err
	}
	t, err := b.tenants.Active(ctx, id)
	if err != nil {
		return nil, err
	}
	return &logical.Response{Data: map[string]any{
		"current_version":        t.Keys.Active().Number,
		"min_decryption_version": t.LeastDecryptable(),
	}}, nil
}
