// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package kv

import (
	"cmp"
	"context"
	"errors"
	"math"
	"slices"
	"strconv"
	"strings"

	"github.com/hashicorp/vault/sdk/framework"
	"github.com/hashicorp/vault/sdk/logical"
	"github.com/mitchellh/mapstructure"

	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/api"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/item"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/itemstore"
)

func (r *Rooms) folderPath() *framework.Path {
	return &framework.Path{
		Pattern: "metadata" + below + "/?$",
		Fields: map[string]*framework.FieldSchema{
			"tenant_id": api.TenantIDField, "kind": api.KindField, "after": api.AfterField, "limit": api.LimitField,
			"exclude_deleted": excludeDeletedField,
		},
		Operations: map[logical.Operation]framework.OperationHandler{
			logical.ListOperation: r.On(r.list, "list metadata", "List a tenant's items of one kind by folder.", api.Listed),
		},
		HelpSynopsis:    "List a tenant's items of one kind by folder, as KV version 2 does.",
		HelpDescription: listHelp,
	}
}

const listHelp = "A list has the items and the folders of one folder; the names of folders end with /. It is sorted."

var excludeDeletedField = &framework.FieldSchema{
	Type:        framework.TypeBool,
	Query:       true,
	Description: "Leave out what was deleted. It is always left out: what was deleted is gone.",
}

func (r *Rooms) metadataPath() *framework.Path {
	return &framework.Path{
		Pattern: "metadata" + anItem,
		Fields: fields(map[string]*framework.FieldSchema{
			"after": api.AfterField, "limit": api.LimitField, "exclude_deleted": excludeDeletedField,
			"custom_metadata":       {Type: framework.TypeMap, Description: "The item's metadata, which are not secret: an object of strings. For a patch, what changes in it."},
			"max_versions":          {Type: framework.TypeInt, Description: "Ignored, with a warning: there is one version of an item."},
			"cas_required":          {Type: framework.TypeBool, Description: "Refused, if it is true: the engine cannot require cas."},
			"delete_version_after":  {Type: framework.TypeDurationSecond, Description: "Refused, if it is not 0: the engine deletes nothing by itself."},
			"metadata_cas":          {Type: framework.TypeInt, Description: "Refused: the engine keeps no versions of metadata."},
			"metadata_cas_required": {Type: framework.TypeBool, Description: "Refused, if it is true: the engine keeps no versions of metadata."},
		}),
		Operations: map[logical.Operation]framework.OperationHandler{
			logical.ListOperation:   r.On(r.list, "list folder", "List a folder of a tenant's items of one kind.", api.Listed),
			logical.ReadOperation:   r.On(r.readMetadata, "read metadata", "Read what is known of an item.", api.OK("What is known of the item.", metadataFields)),
			logical.UpdateOperation: r.On(r.writeMetadata, "write metadata", "Replace the metadata of an item.", done("The metadata are written.")),
			logical.PatchOperation:  r.On(r.patchMetadata, "patch metadata", "Change parts of the metadata of an item.", done("The metadata are written.")),
			logical.DeleteOperation: r.On(r.deleteMetadata, "delete metadata", "Delete an item.", done("There is no such item any more.")),
		},
		HelpSynopsis: "What is known of an item, and its metadata, as in KV version 2.",
		HelpDescription: "A write of the metadata makes no version, and cas does not notice it. If there is no such item, it makes " +
			"one without data. " + listHelp,
	}
}

var metadataFields = map[string]*framework.FieldSchema{
	"versions":             api.Described(framework.TypeMap, "By number, the one version that there is; empty before data was written."),
	"current_version":      api.Described(framework.TypeInt, "The item's revision; 0 before data was written."),
	"oldest_version":       api.Described(framework.TypeInt, "The same."),
	"created_time":         api.Described(framework.TypeTime, "When the item was created."),
	"updated_time":         api.Described(framework.TypeTime, "When the current version was written."),
	"max_versions":         api.Described(framework.TypeInt, "0: it cannot be set."),
	"cas_required":         api.Described(framework.TypeBool, "False: it cannot be set."),
	"delete_version_after": api.Described(framework.TypeString, "0s: it cannot be set."),
	"custom_metadata":      describedFields["custom_metadata"],
	"last_updated_by":      {Type: framework.TypeMap, Description: "Null: the engine does not keep who writes items."},
}

func (r *Rooms) list(ctx context.Context, _ *logical.Request, d *framework.FieldData) (*logical.Response, error) {
	tenantID, err := api.TenantID(d)
	if err != nil {
		return nil, err
	}
	kindName, _ := d.Get("kind").(string)
	kind, _ := item.ParseKind(kindName)
	path := ""
	if d.Schema["name"] != nil {
		path, _ = d.Get("name").(string)
	}
	prefix, err := folderOf(path)
	if err != nil {
		return nil, err
	}
	page, err := api.PageField(d)
	if err != nil {
		return nil, err
	}
	t, err := r.Tenants.Active(ctx, tenantID)
	if err != nil {
		return nil, err
	}
	names, err := r.Items.Names(ctx, t, kind)
	if err != nil {
		return nil, err
	}
	return logical.ListResponse(page.OfSorted(inFolder(names, prefix))), nil
}

// inFolder returns what is in a folder of sorted names: items, and folders once each.
func inFolder(names []string, prefix string) (entries []string) {
	for _, name := range names {
		rest, in := strings.CutPrefix(name, prefix)
		if !in {
			continue
		}
		if first, _, isFolder := strings.Cut(rest, "/"); isFolder {
			rest = first + "/"
		}
		entries = append(entries, rest)
	}
	slices.Sort(entries) // a/b comes behind a.b, and a/ before it
	return slices.Compact(entries)
}

func (r *Rooms) readMetadata(ctx context.Context, _ *logical.Request, d *framework.FieldData) (*logical.Response, error) {
	p, err := at(d)
	if err != nil {
		return nil, err
	}
	it, err := r.read(ctx, p)
	if errors.Is(err, item.ErrNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	versions := map[string]any{}
	if it.HasData() {
		versions[strconv.FormatUint(it.Revision, 10)] = map[string]any{
			"created_time": api.Time(it.UpdatedAt), "deletion_time": "", "destroyed": false,
			"created_by": nil, "deleted_by": nil,
		}
	}
	return &logical.Response{Data: map[string]any{
		"versions":             versions,
		"current_version":      it.Revision,
		"oldest_version":       it.Revision,
		"created_time":         api.Time(it.CreatedAt),
		"updated_time":         api.Time(it.UpdatedAt),
		"max_versions":         0,
		"cas_required":         false,
		"delete_version_after": "0s",
		"custom_metadata":      customMetadata(it),
		"last_updated_by":      nil,
	}}, nil
}

func (r *Rooms) writeMetadata(ctx context.Context, req *logical.Request, d *framework.FieldData) (*logical.Response, error) {
	p, err := at(d)
	if err != nil {
		return nil, err
	}
	resp, err := ignored(d)
	if err != nil {
		return nil, err
	}
	raw, named := d.Raw["custom_metadata"]
	if !named {
		_, err = r.Tenants.Active(ctx, p.tenant)
		return resp, err // KV makes nothing of it either
	}
	object, _ := raw.(map[string]any) // the framework has refused everything else but null
	texts, err := asTexts(object, false)
	if err != nil {
		return nil, err
	}
	metadata, err := api.ParseMetadata("custom_metadata", texts)
	if err != nil {
		return nil, err
	}
	return resp, r.write(ctx, p, &itemstore.Op{IsPatch: true, Change: r.change(req).Annotate(p.name,
		func(map[string]string) (map[string]string, error) { return metadata, nil })})
}

func (r *Rooms) patchMetadata(ctx context.Context, req *logical.Request, d *framework.FieldData) (*logical.Response, error) {
	p, err := at(d)
	if err != nil {
		return nil, err
	}
	resp, err := ignored(d)
	if err != nil {
		return nil, err
	}
	merge, err := metadataPatch(d)
	if err != nil {
		return nil, err
	}
	annotate := r.change(req).Annotate(p.name, merge)
	err = r.write(ctx, p, &itemstore.Op{IsPatch: true, Change: func(cur *item.Item) (*item.Item, error) {
		switch {
		case cur == nil:
			return nil, item.ErrNotFound
		case merge == nil:
			return cur, nil
		}
		return annotate(cur)
	}})
	if errors.Is(err, item.ErrNotFound) {
		return notFound(req)
	}
	return resp, err
}

// metadataPatch returns what a patch makes of an item's metadata, nil if it names none.
func metadataPatch(d *framework.FieldData) (func(map[string]string) (map[string]string, error), error) {
	raw, named := d.Raw["custom_metadata"]
	if !named {
		return nil, nil
	}
	object, _ := raw.(map[string]any)
	texts, err := asTexts(object, true)
	if err != nil {
		return nil, err
	}
	return func(cur map[string]string) (map[string]string, error) {
		if raw == nil {
			return nil, nil // all of them are removed
		}
		return api.MergeMetadata("custom_metadata", cur, texts)
	}, nil
}

func (r *Rooms) deleteMetadata(ctx context.Context, _ *logical.Request, d *framework.FieldData) (*logical.Response, error) {
	p, err := at(d)
	if err != nil {
		return nil, err
	}
	return nil, r.remove(ctx, p, func(*item.Item) bool { return true })
}

// asTexts returns an object with its numbers and yes or no as texts, as KV takes them
// for custom_metadata, and null if that removes a member.
func asTexts(object map[string]any, removes bool) (map[string]any, error) {
	texts := make(map[string]any, len(object))
	for name, value := range object {
		number, isNumber := value.(float64)
		var text string
		switch {
		case value == nil && removes:
			texts[name] = nil
			continue
		case value == nil, isNumber && math.Abs(number) >= api.MaxExactNumber, mapstructure.WeakDecode(value, &text) != nil:
			return nil, api.Invalid("custom_metadata must be an object of strings")
		}
		texts[name] = text
	}
	return texts, nil
}

// ignored looks at the settings of KV that the engine does not have. It refuses those
// whose promise it would break, and warns of max_versions.
func ignored(d *framework.FieldData) (*logical.Response, error) {
	required, _, err := api.BoolField(d, "cas_required")
	if err != nil {
		return nil, err
	}
	if required {
		return nil, api.Invalid("cas_required must be false: the engine cannot require cas of every write")
	}
	if err := noMetadataVersions(d); err != nil {
		return nil, err
	}
	if after, _ := d.Get("delete_version_after").(int); after != 0 {
		return nil, api.Invalid("delete_version_after must be 0: the engine deletes nothing by itself")
	}
	most, _, err := api.IntField(d, "max_versions")
	if err != nil || most <= 1 {
		return nil, err
	}
	resp := &logical.Response{}
	resp.AddWarning("max_versions is ignored: there is one version of an item")
	return resp, nil
}

// noMetadataVersions refuses the conditions that OpenBao's KV takes besides. Passed over as
// unknown fields, they would let a write through that they are to stop.
func noMetadataVersions(d *framework.FieldData) error {
	_, given, noInt := api.IntField(d, "metadata_cas")
	required, _, noBool := api.BoolField(d, "metadata_cas_required")
	if err := cmp.Or(noInt, noBool); err != nil || !given && !required {
		return err
	}
	return api.Invalid("metadata_cas and metadata_cas_required cannot be kept: the engine keeps no versions of metadata")
}
