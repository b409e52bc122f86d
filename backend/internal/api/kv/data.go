// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package kv

import (
	"context"
	"errors"
	"net/http"

	"github.com/hashicorp/vault/sdk/framework"
	"github.com/hashicorp/vault/sdk/logical"

	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/api"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/item"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/itemstore"
)

func (r *Rooms) dataPath() *framework.Path {
	written := api.OK("The version that was written.", describedFields)
	return &framework.Path{
		Pattern: "data" + anItem,
		Fields: fields(map[string]*framework.FieldSchema{
			"version": versionField,
			"data":    {Type: framework.TypeMap, Description: "The secret: an object. For a patch, what changes in it."},
			"options": {Type: framework.TypeMap, Description: "cas: the version that the item must have; 0: it must have none."},
		}),
		Operations: map[logical.Operation]framework.OperationHandler{
			logical.ReadOperation: r.On(r.readData, "read data", "Read an item as a secret of KV version 2.",
				api.OK("The secret.", map[string]*framework.FieldSchema{
					"data":     api.Described(framework.TypeMap, "The secret."),
					"metadata": api.Described(framework.TypeMap, "version, created_time, deletion_time, destroyed, custom_metadata."),
				})),
			logical.UpdateOperation: r.On(r.writeData, "write data", "Write an item as a secret of KV version 2.", written),
			logical.PatchOperation:  r.On(r.patchData, "patch data", "Change parts of a secret by a JSON merge patch.", written),
			logical.DeleteOperation: r.On(r.deleteData, "delete data", "Delete an item that has data.", done("There is no such item any more.")),
		},
		HelpSynopsis: "An item as a secret of KV version 2.",
		HelpDescription: "A write replaces the data of the item and leaves its metadata as they are. The version is the " +
			"item's revision. What is deleted is gone, its metadata too: there is one version of an item.",
	}
}

func (r *Rooms) readData(ctx context.Context, _ *logical.Request, d *framework.FieldData) (*logical.Response, error) {
	it, err := r.version(ctx, d)
	if err != nil || it == nil {
		return nil, err
	}
	data, err := api.DecodeData(it.Data)
	if err != nil {
		return nil, err
	}
	return &logical.Response{Data: map[string]any{"data": data, "metadata": described(it)}}, nil
}

// given returns the data of a write or a patch, and the version that it expects.
func given(d *framework.FieldData) (data map[string]any, cas item.Cas, refused *logical.Response) {
	data, ok := d.Raw["data"].(map[string]any)
	if !ok {
		return nil, cas, logical.ErrorResponse("no data provided")
	}
	options, _ := d.Raw["options"].(map[string]any)
	value, named := options["cas"]
	if !named {
		return data, cas, nil
	}
	cas.Named = true
	if value == nil {
		return data, cas, nil // KV takes null for 0
	}
	n, whole := api.WholeNumber(value)
	if !whole {
		return nil, cas, logical.ErrorResponse("error parsing check-and-set parameter")
	}
	if n < 0 {
		return nil, cas, mismatch()
	}
	cas.Revision = uint64(n)
	return data, cas, nil
}

// mismatch is KV's answer of 400 where the engine's own paths answer 409.
func mismatch() *logical.Response {
	return logical.ErrorResponse("check-and-set parameter did not match the current version")
}

// wrote is the answer to a write that was made, or was not for the reason err.
func wrote(op *itemstore.Op, err error) (*logical.Response, error) {
	switch {
	case errors.Is(err, item.ErrRevision):
		return mismatch(), nil
	case err != nil:
		return nil, err
	}
	return &logical.Response{Data: described(op.Item)}, nil
}

func (r *Rooms) writeData(ctx context.Context, req *logical.Request, d *framework.FieldData) (*logical.Response, error) {
	p, err := at(d)
	if err != nil {
		return nil, err
	}
	data, cas, refused := given(d)
	if refused != nil {
		return refused, nil
	}
	w := item.Write{Change: r.change(req)}
	w.Cas = cas
	if w.Data, err = api.EncodeData(data); err != nil {
		return nil, err
	}
	op := &itemstore.Op{Change: w.ReplaceData(p.name)}
	err = r.write(ctx, p, op)
	return wrote(op, err)
}

func (r *Rooms) patchData(ctx context.Context, req *logical.Request, d *framework.FieldData) (*logical.Response, error) {
	p, err := at(d)
	if err != nil {
		return nil, err
	}
	patch, cas, refused := given(d)
	if refused != nil {
		return refused, nil
	}
	if _, err := api.EncodeData(patch); err != nil {
		return nil, err
	}
	change := r.change(req)
	change.Cas = cas
	op := &itemstore.Op{IsPatch: true, Change: func(cur *item.Item) (*item.Item, error) {
		if cur == nil || !cur.HasData() {
			return nil, item.ErrNotFound
		}
		next, done, err := change.Next(p.name, cur)
		if err != nil || done {
			return next, err
		}
		next.Metadata = cur.Metadata
		next.Data, err = api.MergeData(cur.Data, patch)
		return next, err
	}}
	err = r.write(ctx, p, op)
	if errors.Is(err, item.ErrNotFound) {
		return notFound(req)
	}
	return wrote(op, err)
}

// notFound is KV's answer to a patch of what is not there: 404 without a body.
func notFound(req *logical.Request) (*logical.Response, error) {
	return logical.RespondWithStatusCode(nil, req, http.StatusNotFound)
}

func (r *Rooms) deleteData(ctx context.Context, _ *logical.Request, d *framework.FieldData) (*logical.Response, error) {
	p, err := at(d)
	if err != nil {
		return nil, err
	}
	return nil, r.remove(ctx, p, (*item.Item).HasData)
}

// remove deletes an item, if there is one and it is one of those that are meant.
func (r *Rooms) remove(ctx context.Context, p place, meant func(*item.Item) bool) error {
	err := r.write(ctx, p, &itemstore.Op{Removes: true, Change: func(cur *item.Item) (*item.Item, error) {
		switch {
		case cur == nil:
			return nil, item.ErrNotFound
		case !meant(cur):
			return cur, nil
		}
		return nil, nil
	}})
	if errors.Is(err, item.ErrNotFound) {
		return nil
	}
	return err
}
