// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package fleet

import (
	"context"

	"github.com/hashicorp/vault/sdk/framework"
	"github.com/hashicorp/vault/sdk/logical"

	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/api"
)

func (r *Rooms) tenantsPath() *framework.Path {
	return &framework.Path{
		Pattern: "tenants/?$",
		Fields: map[string]*framework.FieldSchema{
			"after": api.AfterField, "limit": api.LimitField,
			"detailed": {
				Type:        framework.TypeBool,
				Query:       true,
				Description: "Say more of each tenant, in key_info. It needs a limit, of 1,000 at most.",
			},
		},
		Operations: map[logical.Operation]framework.OperationHandler{
			logical.ListOperation: r.On(r.listTenants, "list tenants", "List the tenants.", api.ListedWith(infoHelp)),
		},
		HelpSynopsis: "List the tenants.",
		HelpDescription: "Sorted. With limit, in parts: after is the last key of the part before. With detailed, key_info " +
			"says how each tenant's key stands.",
	}
}

func (r *Rooms) listTenants(ctx context.Context, _ *logical.Request, d *framework.FieldData) (*logical.Response, error) {
	p, err := api.PageField(d)
	if err != nil {
		return nil, err
	}
	detailed, _, err := api.BoolField(d, "detailed")
	if err != nil {
		return nil, err
	}
	if detailed && (p.Limit == 0 || p.Limit > maxDetailed) {
		return nil, api.Invalid("limit must be given with detailed=true, and be at most %d", maxDetailed)
	}
	ids, err := r.Tenants.IDs(ctx, p.After, p.Limit)
	if err != nil || !detailed {
		return logical.ListResponse(ids), err
	}
	described, err := r.Schedule().Overviews(ctx, ids)
	if err != nil {
		return nil, err
	}
	byID := make(map[string]any, len(ids))
	for _, o := range described {
		if o != nil { // one that went meanwhile stays among the keys: their number ends a walk
			byID[o.TenantID] = info(o)
		}
	}
	return logical.ListResponseWithInfo(ids, byID), nil
}
