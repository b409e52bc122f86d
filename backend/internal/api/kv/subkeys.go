// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package kv

import (
	"context"

	"github.com/hashicorp/vault/sdk/framework"
	"github.com/hashicorp/vault/sdk/logical"

	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/api"
)

func (r *Rooms) subkeysPath() *framework.Path {
	return &framework.Path{
		Pattern: "subkeys" + anItem,
		Fields: fields(map[string]*framework.FieldSchema{
			"version": versionField,
			"depth": {
				Type:        framework.TypeInt,
				Query:       true,
				Description: "Go so deep: what lies deeper is null. 0, the default: all.",
			},
		}),
		Operations: map[logical.Operation]framework.OperationHandler{
			logical.ReadOperation: r.On(r.readSubkeys, "read subkeys", "Read which members a secret has, without their values.",
				api.OK("The secret without its values.", map[string]*framework.FieldSchema{
					"subkeys":  api.Described(framework.TypeMap, "The secret, with null for every value that is not an object."),
					"metadata": api.Described(framework.TypeMap, "version, created_time, deletion_time, destroyed, custom_metadata."),
				})),
		},
		HelpSynopsis:    "Which members a secret has, without their values, as in KV version 2.",
		HelpDescription: "Objects are gone through to depth; every other value, and an empty object, is null.",
	}
}

func (r *Rooms) readSubkeys(ctx context.Context, _ *logical.Request, d *framework.FieldData) (*logical.Response, error) {
	depth, err := number(d, "depth")
	if err != nil {
		return nil, err
	}
	it, err := r.version(ctx, d)
	if err != nil || it == nil {
		return nil, err
	}
	data, err := api.DecodeData(it.Data)
	if err != nil {
		return nil, err
	}
	return &logical.Response{Data: map[string]any{"subkeys": withoutValues(data, depth, 1), "metadata": described(it)}}, nil
}

// withoutValues returns an object that lies so deep with null for each value. Objects in
// it keep their members, down to the depth most, if that is not 0.
func withoutValues(object map[string]any, most, depth int) map[string]any {
	names := make(map[string]any, len(object))
	for name, value := range object {
		names[name] = nil
		inner, _ := value.(map[string]any)
		if len(inner) > 0 && (most == 0 || depth < most) {
			names[name] = withoutValues(inner, most, depth+1)
		}
	}
	return names
}
