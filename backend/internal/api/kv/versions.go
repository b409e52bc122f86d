// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package kv

import (
	"context"
	"slices"

	"github.com/hashicorp/vault/sdk/framework"
	"github.com/hashicorp/vault/sdk/logical"

	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/api"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/item"
)

// versionPaths are those that KV has for some of the versions of a secret.
func (r *Rooms) versionPaths() []*framework.Path {
	paths := []*framework.Path{
		{
			Pattern: "delete" + anItem,
			Operations: map[logical.Operation]framework.OperationHandler{
				logical.UpdateOperation: r.On(r.deleteVersions("No version number provided"), "delete version",
					"Delete an item by its version.", done("The versions are gone.")),
			},
			HelpSynopsis:    "Delete an item by its version, as in KV version 2.",
			HelpDescription: "The item is deleted if its version is among those that are named. What is deleted is gone.",
		},
		{
			Pattern: "undelete" + anItem,
			Operations: map[logical.Operation]framework.OperationHandler{
				logical.UpdateOperation: r.On(r.undeleteVersions, "undelete version",
					"Answer as KV version 2 does for versions that are gone.", done("Nothing has changed.")),
			},
			HelpSynopsis:    "Accepted for clients of KV version 2. It brings nothing back.",
			HelpDescription: "What was deleted is gone, so there is nothing to bring back.",
		},
		{
			Pattern: "destroy" + anItem,
			Operations: map[logical.Operation]framework.OperationHandler{
				logical.UpdateOperation: r.On(r.deleteVersions("no version number provided"), "destroy version",
					"Delete an item by its version.", done("The versions are gone.")),
			},
			HelpSynopsis:    "Delete an item by its version, as in KV version 2.",
			HelpDescription: "The same as delete: what is deleted is gone. The tenant's key stays, of course.",
		},
	}
	for _, p := range paths {
		p.Fields = fields(map[string]*framework.FieldSchema{
			"versions": {Type: framework.TypeCommaIntSlice, Description: "The versions: a list of numbers."},
		})
	}
	return paths
}

// versions returns the numbers that a request names, none if it names none. It refuses
// what the framework takes for version 1 though it is none: 1.5, and true.
func versions(d *framework.FieldData) ([]int, error) {
	given := d.Raw["versions"]
	list, isList := given.([]any)
	if !isList {
		list = []any{given}
	}
	for _, v := range list {
		switch v.(type) {
		case float64, bool:
			if _, whole := api.WholeNumber(v); !whole {
				return nil, api.Invalid("versions must be a list of whole numbers")
			}
		}
	}
	numbers, _ := d.Get("versions").([]int)
	return numbers, nil
}

// deleteVersions deletes the item if its version is among those named. KV has two
// spellings of the answer to a request without numbers.
func (r *Rooms) deleteVersions(noNumbers string) api.Handler {
	return func(ctx context.Context, _ *logical.Request, d *framework.FieldData) (*logical.Response, error) {
		p, err := at(d)
		if err != nil {
			return nil, err
		}
		numbers, err := versions(d)
		if err != nil {
			return nil, err
		}
		if len(numbers) == 0 {
			return logical.ErrorResponse(noNumbers), nil
		}
		return nil, r.remove(ctx, p, func(it *item.Item) bool {
			return it.HasData() && slices.ContainsFunc(numbers, func(n int) bool { return n > 0 && uint64(n) == it.Revision })
		})
	}
}

func (r *Rooms) undeleteVersions(ctx context.Context, _ *logical.Request, d *framework.FieldData) (*logical.Response, error) {
	p, err := at(d)
	if err != nil {
		return nil, err
	}
	numbers, err := versions(d)
	if err != nil {
		return nil, err
	}
	if len(numbers) == 0 {
		return logical.ErrorResponse("No version number provided"), nil
	}
	_, err = r.Tenants.Active(ctx, p.tenant)
	return nil, err
}
