// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

// Package kv has the face of KV version 2: the items of tenants at the paths, with the
// fields and the answers of Vault's KV secrets engine, so that its clients work unchanged.
// It changes the same items as their own paths do, in the same way: a version is the
// item's revision, and custom_metadata is its metadata. docs/kv.md has the differences
// that clients can see.
//
// It must never keep anything of its own. Whoever writes at these paths and reads at the
// items' own finds one item.
package kv

import (
	"context"
	"errors"
	"strings"
	"time"

	"github.com/hashicorp/vault/sdk/framework"
	"github.com/hashicorp/vault/sdk/logical"

	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/api"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/item"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/itemstore"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/jobs"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/tenant"
)

// Rooms has what the paths need.
type Rooms struct {
	*api.Operations

	Tenants *tenant.Store
	Items   *itemstore.Store
	// Limiter is told of requests, beside which rotations slow down.
	Limiter *jobs.Limiter
	Now     func() time.Time
}

// Paths returns the paths.
func (r *Rooms) Paths() []*framework.Path {
	return append([]*framework.Path{r.dataPath(), r.folderPath(), r.metadataPath(), r.subkeysPath()}, r.versionPaths()...)
}

// below is what all patterns have behind their first part.
const below = `/(?P<tenant_id>[^/]+)/` + api.KindPattern

const anItem = below + `/(?P<name>[\s\S]+)$`

// fields are those of the path, and others.
func fields(others map[string]*framework.FieldSchema) map[string]*framework.FieldSchema {
	all := map[string]*framework.FieldSchema{
		"tenant_id": api.TenantIDField,
		"kind":      api.KindField,
		"name": {
			Type:        framework.TypeString,
			Description: "The item's name: 1 to 256 characters of A-Z a-z 0-9 . _ @ : - with / between parts.",
		},
	}
	for name, f := range others {
		all[name] = f
	}
	return all
}

// place says which item a request is about.
type place struct {
	tenant string
	kind   item.Kind
	name   string
}

// at returns the item that the path names.
func at(d *framework.FieldData) (p place, err error) {
	if p.tenant, err = api.TenantID(d); err != nil {
		return p, err
	}
	kind, _ := d.Get("kind").(string)
	p.kind, _ = item.ParseKind(kind) // the pattern has taken no other
	p.name, _ = d.Get("name").(string)
	return p, api.CheckName(p.name)
}

// read returns an item. It fails with [item.ErrNotFound].
func (r *Rooms) read(ctx context.Context, p place) (*item.Item, error) {
	t, err := r.Tenants.Active(ctx, p.tenant)
	if err != nil {
		return nil, err
	}
	began := r.Now()
	r.Limiter.Touch(began)
	it, _, err := r.Items.Read(ctx, t, p.kind, p.name)
	ended := r.Now()
	r.Limiter.Read(ended, ended.Sub(began))
	return it, err
}

// version returns an item with data in the version that a request asks for. It is nil,
// for which Vault answers 404 as KV does, if there is no such version.
func (r *Rooms) version(ctx context.Context, d *framework.FieldData) (*item.Item, error) {
	p, err := at(d)
	if err != nil {
		return nil, err
	}
	asked, err := number(d, "version")
	if err != nil {
		return nil, err
	}
	it, err := r.read(ctx, p)
	if errors.Is(err, item.ErrNotFound) {
		return nil, nil
	}
	if err != nil || !it.HasData() || asked > 0 && uint64(asked) != it.Revision {
		return nil, err
	}
	return it, nil
}

// number returns a whole number of a query, 0 if it is not there or, as KV takes it, empty.
func number(d *framework.FieldData, field string) (int, error) {
	if d.Raw[field] == "" {
		return 0, nil
	}
	n, _, err := api.IntField(d, field)
	return n, err
}

var versionField = &framework.FieldSchema{
	Type:        framework.TypeInt,
	Query:       true,
	Description: "Read this version. An item has one, the current; any other is not found. 0: the current one.",
}

// write makes one change. op.Err is its outcome.
func (r *Rooms) write(ctx context.Context, p place, op *itemstore.Op) error {
	op.Kind, op.Name = p.kind, p.name
	r.Limiter.Touch(r.Now())
	if err := r.Items.Write(ctx, p.tenant, op); err != nil {
		return err
	}
	return op.Err
}

// change is what a request's change of an item begins with.
func (r *Rooms) change(req *logical.Request) item.Change {
	return item.Change{Request: item.Request{ID: req.ID}, Now: r.Now}
}

// described is an answer that says what a version is, beside what is in it.
func described(it *item.Item) map[string]any {
	return map[string]any{
		"version":         it.Revision,
		"created_time":    api.Time(it.UpdatedAt),
		"deletion_time":   "",
		"destroyed":       false,
		"custom_metadata": customMetadata(it),
	}
}

// describedFields are the fields of described.
var describedFields = map[string]*framework.FieldSchema{
	"version":         api.Described(framework.TypeInt, "The version: the item's revision."),
	"created_time":    api.Described(framework.TypeTime, "When this version was written."),
	"deletion_time":   api.Described(framework.TypeString, "Empty: a version that was deleted is gone."),
	"destroyed":       api.Described(framework.TypeBool, "False: a version that was destroyed is gone."),
	"custom_metadata": {Type: framework.TypeMap, Description: "The item's metadata. Null, if there is none."},
}

// customMetadata is null for an item without metadata, as in KV.
func customMetadata(it *item.Item) any {
	if len(it.Metadata) == 0 {
		return nil
	}
	return it.Metadata
}

// done describes an answer without a body.
func done(description string) map[int][]framework.Response {
	return map[int][]framework.Response{204: {{Description: description}}}
}

// folderOf returns the beginning of the names in the folder that a path of a list names.
func folderOf(path string) (prefix string, err error) {
	path = strings.TrimSuffix(path, "/") // Vault puts one behind the path of every list
	if path == "" {
		return "", nil
	}
	return path + "/", api.CheckName(path)
}
