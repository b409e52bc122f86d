// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package backend

import (
	"context"
	"encoding/json"
	"errors"

	"github.com/hashicorp/vault/sdk/framework"
	"github.com/hashicorp/vault/sdk/logical"

	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/api"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/item"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/itemstore"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/keystore"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/page"
)

// maxReadBytes bounds the items of one answer: what they have encoded, in memory and on
// the wire, several times over. Ten thousand items of 1.4 KB have room.
const maxReadBytes = 16 << 20

func (b *backend) bulkReadPath() *framework.Path {
	answer := api.OK("One result for each item, in order.", map[string]*framework.FieldSchema{
		"results":  api.Described(framework.TypeSlice, "Each what a read of the item answers, or error."),
		"left_out": {Type: framework.TypeSlice, Description: "The places, from 0, of the items for which the answer had no room. Missing if there are none."},
	})
	return &framework.Path{
		Pattern: api.TenantPattern + "/items/read$",
		Fields: map[string]*framework.FieldSchema{
			"tenant_id": api.TenantIDField,
			"items": {
				Type:        framework.TypeSlice,
				Description: "Up to 10,000 objects with kind and name.",
			},
		},
		Operations: map[logical.Operation]framework.OperationHandler{
			logical.UpdateOperation: b.On(b.readItems, "read items", "Read many items.", answer),
		},
		HelpSynopsis: "Read many items of a tenant at once.",
		HelpDescription: "Each item is read or refused by itself, and has its own result. An answer has at most 16 MiB of " +
			"items: those for which there is no room have an error, and left_out says which they are. They are for another request.",
	}
}

func (b *backend) readItems(ctx context.Context, req *logical.Request, d *framework.FieldData) (*logical.Response, error) {
	id, err := api.TenantID(d)
	if err != nil {
		return nil, err
	}
	entries, err := bulkEntries(d.Raw["items"])
	if err != nil {
		return nil, err
	}
	results := make([]map[string]any, len(entries))
	wanted, at := make([]itemstore.Wanted, 0, len(entries)), make([]int, 0, len(entries))
	for i, entry := range entries {
		w, err := bulkWanted(entry)
		if err != nil {
			results[i] = b.refusedItem(req, err)
			continue
		}
		wanted, at = append(wanted, w), append(at, i)
	}
	t, err := b.tenants.Active(ctx, id)
	if err != nil {
		return nil, err // even if no entry is well-formed
	}
	b.limiter.Touch(b.now())
	more, release := b.Answering(id)
	defer release()
	found, err := b.items.ReadMany(ctx, t, wanted, maxReadBytes, more)
	if err != nil {
		return nil, err
	}
	answer := map[string]any{"results": results}
	var leftOut []int
	for n, f := range found {
		if keystore.IsLocked(f.Err) {
			return nil, f.Err
		}
		results[at[n]] = b.readResult(req, f)
		if errors.Is(f.Err, itemstore.ErrLeftOut) {
			leftOut = append(leftOut, at[n])
		}
	}
	if leftOut != nil {
		answer["left_out"] = leftOut
	}
	return &logical.Response{Data: answer}, nil
}

// bulkWanted returns which item an entry names.
func bulkWanted(entry map[string]any) (itemstore.Wanted, error) {
	kindName, _ := entry["kind"].(string)
	kind, err := parseKind(kindName)
	if err != nil {
		return itemstore.Wanted{}, err
	}
	name, _ := entry["name"].(string)
	return itemstore.Wanted{Kind: kind, Name: name}, api.CheckName(name)
}

func (b *backend) readResult(req *logical.Request, f itemstore.Found) map[string]any {
	if f.Err != nil {
		return b.refusedItem(req, f.Err)
	}
	if !f.Item.HasData() {
		return itemValue(f.Item, f.Version, nil)
	}
	if !json.Valid(f.Item.Data) {
		return b.refusedItem(req, page.ErrDamaged)
	}
	// Encoded as it is: decoded, ten thousand items take ten times the memory.
	return itemValue(f.Item, f.Version, json.RawMessage(f.Item.Data))
}

// itemValue is an item as answers have it.
func itemValue(it *item.Item, version int, data any) map[string]any {
	metadata := it.Metadata
	if metadata == nil {
		metadata = map[string]string{}
	}
	return map[string]any{
		"data":        data,
		"metadata":    metadata,
		"revision":    it.Revision,
		"key_version": version,
		"created_at":  api.Time(it.CreatedAt),
		"updated_at":  api.Time(it.UpdatedAt),
	}
}

// refusedItem is the result for an item that was not read.
func (b *backend) refusedItem(req *logical.Request, err error) map[string]any {
	_, err = api.Answer(err)
	if coded, told := err.(logical.HTTPCodedError); told { //nolint:errorlint // answer returns it bare
		return map[string]any{"error": coded.Error()}
	}
	b.Logger().Error("an item of a bulk read was not read", "request_id", req.ID, "error", err)
	return map[string]any{"error": "the item could not be read, for a fault that the engine's log tells"}
}
