// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package fleet

import (
	"context"
	"net/http"

	"github.com/hashicorp/vault/sdk/framework"
	"github.com/hashicorp/vault/sdk/logical"

	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/api"
)

func (r *Rooms) tombstonePaths() []*framework.Path {
	return []*framework.Path{
		{
			Pattern: "tombstones/?$",
			Fields:  map[string]*framework.FieldSchema{"after": api.AfterField, "limit": api.LimitField},
			Operations: map[logical.Operation]framework.OperationHandler{
				logical.ListOperation: r.On(r.listTombstones, "list tombstones", "List the tenants that were shredded.", api.Listed),
			},
			HelpSynopsis: "List the tenants that were shredded.",
			HelpDescription: "By ID, sorted. The ID of a tenant that was shredded may be in use again: then it is in the list " +
				"of tenants as well.",
		},
		{
			Pattern: "tombstones/(?P<tenant_id>[^/]+)$",
			Fields:  map[string]*framework.FieldSchema{"tenant_id": api.TenantIDField},
			Operations: map[logical.Operation]framework.OperationHandler{
				logical.ReadOperation: r.On(r.readTombstones, "read tombstones", "Read what is kept of shredded tenants of one ID.",
					api.OK("The tombstones.", map[string]*framework.FieldSchema{
						"tombstones": api.Described(framework.TypeSlice, "Newest first, each with incarnation, display_name, created_at, "+
							"deleted_at (when deletion was asked for), shredded_at, deleted_by (the ID alone), items (counts by kind), "+
							"and versions (how many keys were destroyed)."),
					})),
			},
			HelpSynopsis: "What is kept of tenants that were shredded.",
			HelpDescription: "An ID has one tombstone for each tenant of that ID that was shredded, of the last 100. No secret, " +
				"no item's name and no key is in it, and of the person who asked only the ID.",
		},
	}
}

func (r *Rooms) listTombstones(ctx context.Context, _ *logical.Request, d *framework.FieldData) (*logical.Response, error) {
	p, err := api.PageField(d)
	if err != nil {
		return nil, err
	}
	ids, err := r.Tenants.TombstoneIDs(ctx, p.After, p.Limit)
	return logical.ListResponse(ids), err
}

func (r *Rooms) readTombstones(ctx context.Context, _ *logical.Request, d *framework.FieldData) (*logical.Response, error) {
	id, err := api.TenantID(d)
	if err != nil {
		return nil, err
	}
	stones, err := r.Tenants.Tombstones(ctx, id)
	if err != nil && len(stones) == 0 {
		return nil, err
	}
	if len(stones) == 0 {
		return nil, api.Refuse(http.StatusNotFound, "no tenant of this ID was shredded")
	}
	values := make([]map[string]any, 0, len(stones))
	for _, s := range stones {
		values = append(values, map[string]any{
			"incarnation":  s.Incarnation,
			"display_name": s.DisplayName,
			"created_at":   api.Time(s.CreatedAt),
			"deleted_at":   api.Time(s.DeletedAt),
			"shredded_at":  api.Time(s.Shredded),
			"deleted_by":   api.PersonID(s.DeletedBy.ID),
			"items":        s.Items.Map(),
			"versions":     s.Versions,
		})
	}
	resp := &logical.Response{Data: map[string]any{"tombstones": values}}
	if err != nil {
		r.Log().Error("a tombstone cannot be read", "tenant_id", id, "error", err)
		resp.AddWarning("more tombstones of this ID are there and cannot be read: the engine's log tells")
	}
	return resp, nil
}
