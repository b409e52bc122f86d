// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package encrypt

import (
	"context"
	"encoding/base64"
	"maps"

	"github.com/hashicorp/vault/sdk/framework"
	"github.com/hashicorp/vault/sdk/logical"

	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/api"
)

// defaultKeyBits is the length of a data key unless the request says otherwise.
const defaultKeyBits = 256

// datakeyPaths are two, so that a policy can let a role make data keys whose
// plaintext only another role can ask for.
func (p *paths) datakeyPaths() []*framework.Path {
	fields := map[string]*framework.FieldSchema{
		"tenant_id":       api.TenantIDField,
		"associated_data": associatedDataField,
		"bits": {
			Type:        framework.TypeInt,
			Default:     defaultKeyBits,
			Description: "How long the key is: 128, 256 (default) or 512 bits.",
		},
	}
	wrapped := map[string]*framework.FieldSchema{
		"ciphertext":  api.Described(framework.TypeString, "The key, sealed: decrypt opens it, with the same associated_data."),
		"key_version": api.Described(framework.TypeInt, "The version of the tenant's key that it is sealed by."),
		"lease":       api.Described(framework.TypeInt, "Seconds that the key may go on being used, by the earlier of the caller's monotonic and wall clocks."),
	}
	plain := maps.Clone(wrapped)
	plain["plaintext"] = api.Described(framework.TypeString, "Base64 of the key.")
	const description = "The engine does not keep the key. It is sealed by the tenant's key, as what encrypt seals, and " +
		"opened again by decrypt. A caller lets go of the key when its lease has passed, and asks again. With the " +
		"associated_data vault-plugin-dek/data-key/v1 it is for envelopes, with vault-plugin-dek/file-key/v1 for a file: " +
		"it then has 256 bits."
	return []*framework.Path{
		{
			Pattern: api.TenantPattern + "/datakey/plaintext$",
			Fields:  fields,
			Operations: map[logical.Operation]framework.OperationHandler{
				logical.UpdateOperation: p.On(p.datakey(true), "generate plaintext-data-key", "Make a data key, in clear and sealed.", api.OK("The key.", plain)),
			},
			HelpSynopsis:    "Make a random data key, and answer it in clear and sealed by a tenant's key.",
			HelpDescription: description,
		},
		{
			Pattern: api.TenantPattern + "/datakey/wrapped$",
			Fields:  fields,
			Operations: map[logical.Operation]framework.OperationHandler{
				logical.UpdateOperation: p.On(p.datakey(false), "generate wrapped-data-key", "Make a data key, sealed.", api.OK("The key.", wrapped)),
			},
			HelpSynopsis:    "Make a random data key, and answer it sealed by a tenant's key only.",
			HelpDescription: description,
		},
	}
}

func (p *paths) datakey(inClear bool) api.Handler {
	return func(ctx context.Context, _ *logical.Request, d *framework.FieldData) (*logical.Response, error) {
		id, err := api.TenantID(d)
		if err != nil {
			return nil, err
		}
		size, err := keyBytes(d)
		if err != nil {
			return nil, err
		}
		ad, err := associatedData(d.Raw)
		if err != nil {
			return nil, err
		}
		p.touch()
		key, err := p.engine.DataKey(ctx, id, size, ad)
		if err != nil {
			return nil, err
		}
		defer clear(key.Key)
		data := map[string]any{
			"ciphertext": key.Sealed.Text, "key_version": key.Sealed.Version, "lease": int64(key.Lease.Seconds()),
		}
		if inClear {
			data["plaintext"] = base64.StdEncoding.EncodeToString(key.Key)
		}
		return &logical.Response{Data: data}, nil
	}
}

func keyBytes(d *framework.FieldData) (int, error) {
	bits, named, err := api.IntField(d, "bits")
	if err != nil {
		return 0, err
	}
	if !named {
		bits = defaultKeyBits
	}
	if bits != 128 && bits != 256 && bits != 512 {
		return 0, api.Invalid("bits must be 128, 256 or 512")
	}
	return bits / 8, nil
}
