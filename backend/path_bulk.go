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
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/keystore"
)

// maxBulkItems bounds the items of a bulk write.
const maxBulkItems = 10_000

func (b *backend) bulkPath() *framework.Path {
	answer := api.OK("One result for each item, in order.", map[string]*framework.FieldSchema{
		"results": api.Described(framework.TypeSlice, "Each the item's revision, or an error."),
	})
	return &framework.Path{
		Pattern: api.TenantPattern + "/items$",
		Fields: map[string]*framework.FieldSchema{
			"tenant_id": api.TenantIDField,
			"items": {
				Type:        framework.TypeSlice,
				Description: "Up to 10,000 objects with kind, name, data, metadata and cas.",
			},
		},
		Operations: map[logical.Operation]framework.OperationHandler{
			logical.UpdateOperation: b.On(b.writeItems, "write items", "Create or replace many items.", answer),
		},
		HelpSynopsis:    "Write many items of a tenant at once.",
		HelpDescription: "Each item is written or refused by itself, and has its own result.",
	}
}

func (b *backend) writeItems(ctx context.Context, req *logical.Request, d *framework.FieldData) (*logical.Response, error) {
	id, err := api.TenantID(d)
	if err != nil {
		return nil, err
	}
	entries, err := bulkEntries(d.Raw["items"])
	if err != nil {
		return nil, err
	}
	ops := make([]*itemstore.Op, len(entries))
	var sent []*itemstore.Op
	for i, entry := range entries {
		op, err := b.bulkOp(entry, item.Request{ID: req.ID, Entry: i})
		if err != nil {
			ops[i] = &itemstore.Op{Err: err}
			continue
		}
		ops[i] = op
		sent = append(sent, op)
	}
	if _, err := b.tenants.Active(ctx, id); err != nil {
		return nil, err // even if no entry is well-formed
	}
	if err := b.apply(ctx, id, sent...); err != nil {
		return nil, err
	}
	results := make([]map[string]any, len(ops))
	for i, op := range ops {
		if keystore.IsLocked(op.Err) {
			return nil, op.Err // all of them: those that were written are recognized
		}
		results[i] = b.bulkResult(op)
	}
	return &logical.Response{Data: map[string]any{"results": results}}, nil
}

// bulkEntries checks the request as a whole.
func bulkEntries(raw any) ([]map[string]any, error) {
	list, ok := raw.([]any)
	if !ok || len(list) == 0 {
		return nil, api.Invalid("items must be a list of 1 to %d objects", maxBulkItems)
	}
	if len(list) > maxBulkItems {
		return nil, api.Invalid("items must be a list of 1 to %d objects, not of %d", maxBulkItems, len(list))
	}
	entries := make([]map[string]any, len(list))
	for i, e := range list {
		entry, ok := e.(map[string]any)
		if !ok {
			return nil, api.Invalid("items must be a list of objects; element %d is none", i)
		}
		entries[i] = entry
	}
	return entries, nil
}

// bulkOp makes the change that one entry asks for.
func (b *backend) bulkOp(entry map[string]any, request item.Request) (*itemstore.Op, error) {
	kindName, _ := entry["kind"].(string)
	kind, err := parseKind(kindName)
	if err != nil {
		return nil, err
	}
	name, _ := entry["name"].(string)
	if err := api.CheckName(name); err != nil {
		return nil, err
	}
	if err := api.CheckText(entry); err != nil {
		return nil, err
	}
	w, err := parseWrite(entry, request, b.now)
	if err != nil {
		return nil, err
	}
	return &itemstore.Op{Kind: kind, Name: name, Change: w.Replace(name)}, nil
}

func (b *backend) bulkResult(op *itemstore.Op) map[string]any {
	if op.Err == nil {
		return map[string]any{"revision": op.Item.Revision}
	}
	_, err := api.Answer(op.Err)
	if coded, told := err.(logical.HTTPCodedError); told { //nolint:errorlint // answer returns it bare
		return map[string]any{"error": coded.Error()}
	}
	b.Logger().Error("an item of a bulk write was not written", "error", err)
	return map[string]any{"error": "the item was not written, for a fault that the engine's log tells: try again"}
}
