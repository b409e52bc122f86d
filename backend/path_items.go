// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package backend

import (
	"context"

	"github.com/hashicorp/vault/sdk/framework"
	"github.com/hashicorp/vault/sdk/logical"

	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/api"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/item"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/itemstore"
)

func (b *backend) itemPaths() []*framework.Path {
	written := api.OK("The item's new revision.", map[string]*framework.FieldSchema{
		"revision": api.Described(framework.TypeInt, "The item's revision, from 1."),
	})
	answer := api.OK("The item.", map[string]*framework.FieldSchema{
		"data":        {Type: framework.TypeMap, Description: "The secret. Null, if the item has metadata alone."},
		"metadata":    api.Described(framework.TypeMap, "What is not secret."),
		"revision":    api.Described(framework.TypeInt, "The item's revision, from 1. 0, if the item has metadata alone."),
		"key_version": api.Described(framework.TypeInt, "The version of the tenant's key that it is encrypted under."),
		"created_at":  api.Described(framework.TypeTime, "When it was created."),
		"updated_at":  api.Described(framework.TypeTime, "When it was written last."),
	})
	return []*framework.Path{
		b.bulkPath(),
		b.bulkReadPath(),
		{
			Pattern: api.TenantPattern + "/" + api.KindPattern + "/?$",
			Fields: map[string]*framework.FieldSchema{
				"tenant_id": api.TenantIDField, "kind": api.KindField, "after": api.AfterField, "limit": api.LimitField,
				"partial": api.PartialField,
			},
			Operations: map[logical.Operation]framework.OperationHandler{
				logical.ListOperation: b.On(b.listItems, "list items", "List a tenant's items of one kind.", api.ItemsListed),
			},
			HelpSynopsis: "List a tenant's items of one kind.",
			HelpDescription: "Names are flat: a name with slashes is listed whole. All of them come sorted; " +
				"with limit they come in the order of storage, which stays the same while pages split. " +
				"A page that cannot be read fails the list, unless partial is true.",
		},
		{
			Pattern: api.TenantPattern + "/" + api.KindPattern + "/(?P<name>[\\s\\S]+)$",
			Fields: map[string]*framework.FieldSchema{
				"tenant_id": api.TenantIDField, "kind": api.KindField,
				"name": {
					Type:        framework.TypeString,
					Description: "The item's name: 1 to 256 characters of A-Z a-z 0-9 . _ @ : - with / between parts.",
				},
				"data": {
					Type:        framework.TypeMap,
					Description: "The secret: an object.",
				},
				"metadata": {
					Type:        framework.TypeMap,
					Description: "What is not secret: an object of strings.",
				},
				"cas": {
					Type:        framework.TypeInt,
					Query:       true,
					Description: "The revision that the item must have; 0: it must not exist. On delete it is a query parameter.",
				},
			},
			Operations: map[logical.Operation]framework.OperationHandler{
				logical.ReadOperation:   b.On(b.readItem, "read item", "Read an item.", answer),
				logical.UpdateOperation: b.On(b.writeItem, "write item", "Create or replace an item.", written),
				logical.PatchOperation:  b.On(b.patchItem, "patch item", "Change parts of an item by a JSON merge patch.", written),
				logical.DeleteOperation: b.On(b.deleteItem, "delete item", "Delete an item.", deleted),
			},
			HelpSynopsis: "An item of a tenant.",
			HelpDescription: "A write replaces data and metadata; a patch changes them as RFC 7396 has it. " +
				"With cas, only if the item has that revision.",
		},
	}
}

var deleted = map[int][]framework.Response{204: {{Description: "The item is deleted."}}}

// itemName returns which item the path names.
func itemName(d *framework.FieldData) (tenant string, kind item.Kind, name string, err error) {
	if tenant, kind, err = tenantAndKind(d); err != nil {
		return "", 0, "", err
	}
	name, _ = d.Get("name").(string)
	return tenant, kind, name, api.CheckName(name)
}

func tenantAndKind(d *framework.FieldData) (tenant string, kind item.Kind, err error) {
	if tenant, err = api.TenantID(d); err != nil {
		return "", 0, err
	}
	text, _ := d.Get("kind").(string)
	kind, err = parseKind(text)
	return tenant, kind, err
}

func parseKind(text string) (item.Kind, error) {
	kind, known := item.ParseKind(text)
	if !known {
		return 0, api.Invalid("kind must be credentials, apiKeys or secrets")
	}
	return kind, nil
}

func (b *backend) listItems(ctx context.Context, _ *logical.Request, d *framework.FieldData) (*logical.Response, error) {
	tenant, kind, err := tenantAndKind(d)
	if err != nil {
		return nil, err
	}
	p, err := api.PageField(d)
	if err != nil {
		return nil, err
	}
	if p.After != "" {
		if err := api.CheckName(p.After); err != nil {
			return nil, api.Invalid("after must be the name of an item")
		}
	}
	partial, _, err := api.BoolField(d, "partial")
	if err != nil {
		return nil, err
	}
	t, err := b.tenants.Active(ctx, tenant)
	if err != nil {
		return nil, err
	}
	if partial {
		return b.listReadable(ctx, t, kind, p)
	}
	var names []string
	if p.Limit == 0 && p.After == "" {
		names, err = b.items.Names(ctx, t, kind)
	} else {
		names, err = b.items.NamesAfter(ctx, t, kind, p.After, p.Limit)
	}
	if err != nil {
		return nil, err
	}
	return logical.ListResponse(names), nil
}

func (b *backend) readItem(ctx context.Context, _ *logical.Request, d *framework.FieldData) (*logical.Response, error) {
	tenant, kind, name, err := itemName(d)
	if err != nil {
		return nil, err
	}
	t, err := b.tenants.Active(ctx, tenant)
	if err != nil {
		return nil, err
	}
	began := b.now()
	b.limiter.Touch(began)
	it, version, err := b.items.Read(ctx, t, kind, name)
	ended := b.now()
	b.limiter.Read(ended, ended.Sub(began))
	if err != nil {
		return nil, err
	}
	data, err := api.DecodeData(it.Data)
	if err != nil {
		return nil, err
	}
	return &logical.Response{Data: itemValue(it, version, data)}, nil
}

func (b *backend) writeItem(ctx context.Context, req *logical.Request, d *framework.FieldData) (*logical.Response, error) {
	tenant, kind, name, err := itemName(d)
	if err != nil {
		return nil, err
	}
	w, err := parseWrite(d.Raw, item.Request{ID: req.ID}, b.now)
	if err != nil {
		return nil, err
	}
	return b.applyOne(ctx, tenant, &itemstore.Op{Kind: kind, Name: name, Change: w.Replace(name)})
}

func (b *backend) patchItem(ctx context.Context, req *logical.Request, d *framework.FieldData) (*logical.Response, error) {
	tenant, kind, name, err := itemName(d)
	if err != nil {
		return nil, err
	}
	p, err := parsePatch(d.Raw, req.ID, b.now)
	if err != nil {
		return nil, err
	}
	return b.applyOne(ctx, tenant, &itemstore.Op{Kind: kind, Name: name, Change: p.merge, IsPatch: true})
}

func (b *backend) deleteItem(ctx context.Context, _ *logical.Request, d *framework.FieldData) (*logical.Response, error) {
	tenant, kind, name, err := itemName(d)
	if err != nil {
		return nil, err
	}
	cas, err := casField(d.Raw)
	if err != nil {
		return nil, err
	}
	// Of an item that was lost nobody knows the revision that cas is held against.
	return b.applyOne(ctx, tenant, &itemstore.Op{Kind: kind, Name: name, Removes: !cas.Named, Change: func(cur *item.Item) (*item.Item, error) {
		if cur == nil {
			return nil, item.ErrNotFound
		}
		return nil, cas.Check(cur)
	}})
}
