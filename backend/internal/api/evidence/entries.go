// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package evidence

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"strconv"

	"github.com/hashicorp/vault/sdk/framework"
	"github.com/hashicorp/vault/sdk/logical"
	"golang.org/x/mod/sumdb/tlog"

	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/api"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/evidencelog"
	events "github.com/vault-plugin-dek/vault-plugin-dek/evidence"
)

const indexPattern = `/(?P<index>[^/]+)`

var (
	indexField = &framework.FieldSchema{
		Type:        framework.TypeString,
		Description: "The entry's index in the log, from 0, in decimal.",
	}
	sizeField = &framework.FieldSchema{
		Type:        framework.TypeInt,
		Query:       true,
		Description: "Prove the entry for the checkpoint of this size. Without it, for the present one.",
	}
	afterField = &framework.FieldSchema{
		Type:        framework.TypeString,
		Query:       true,
		Description: "List what follows this index: the last one of the part before.",
	}
	limitField = &framework.FieldSchema{
		Type:        framework.TypeInt,
		Query:       true,
		Description: "List at most so many, by default and at most 1,000.",
	}
	entryAnswer = api.OK("The entry.", map[string]*framework.FieldSchema{
		"entry":     api.Described(framework.TypeMap, "The entry: an in-toto Statement."),
		"leaf":      api.Described(framework.TypeString, "Its exact bytes, in base64."),
		"leaf_hash": api.Described(framework.TypeString, "Their hash as a leaf of the tree, in base64."),
		"proof":     api.Described(framework.TypeString, "A c2sp.org/tlog-proof@v1 text."),
	})
)

func (p *Paths) entryPaths() []*framework.Path {
	const about = "Indexes are decimal numbers, in their order. An entry comes with a proof that the checkpoint in it has the entry."
	return []*framework.Path{{
		Pattern: "evidence/entries/?$",
		Fields:  map[string]*framework.FieldSchema{"after": afterField, "limit": limitField},
		Operations: map[logical.Operation]framework.OperationHandler{
			logical.ListOperation: p.on(p.listEntries, "list evidence-entries", "List the entries of the evidence log.", api.Listed),
		},
		HelpSynopsis: "The entries of the evidence log.", HelpDescription: about,
	}, {
		Pattern: "evidence/entries" + indexPattern + "$",
		Fields:  map[string]*framework.FieldSchema{"index": indexField, "size": sizeField},
		Operations: map[logical.Operation]framework.OperationHandler{
			logical.ReadOperation: p.on(p.readEntry, "read evidence-entry", "Read an entry of the evidence log, with its proof.", entryAnswer),
		},
		HelpSynopsis: "An entry of the evidence log.", HelpDescription: about,
	}, {
		Pattern: api.TenantPattern + "/evidence/?$",
		Fields:  map[string]*framework.FieldSchema{"tenant_id": api.TenantIDField, "after": afterField, "limit": limitField},
		Operations: map[logical.Operation]framework.OperationHandler{
			logical.ListOperation: p.on(p.listOfTenant, "list tenant-evidence", "List the entries about a tenant.", api.Listed),
		},
		HelpSynopsis:    "The entries of the evidence log about a tenant.",
		HelpDescription: "Those of its earlier incarnations, too: also of a tenant that was shredded.",
	}, {
		Pattern: api.TenantPattern + "/evidence" + indexPattern + "$",
		Fields:  map[string]*framework.FieldSchema{"tenant_id": api.TenantIDField, "index": indexField, "size": sizeField},
		Operations: map[logical.Operation]framework.OperationHandler{
			logical.ReadOperation: p.on(p.readOfTenant, "read tenant-evidence", "Read an entry about a tenant, with its proof.", entryAnswer),
		},
		HelpSynopsis:    "An entry of the evidence log about a tenant.",
		HelpDescription: "As evidence/entries, of this tenant only.",
	}}
}

// page reads the fields of a list.
func page(d *framework.FieldData) (after int64, limit int, err error) {
	fields, err := api.PageField(d)
	if err != nil {
		return 0, 0, err
	}
	if fields.Limit > evidencelog.MaxPage {
		return 0, 0, api.Invalid("limit must be at most %d", evidencelog.MaxPage)
	}
	if fields.Limit == 0 {
		fields.Limit = evidencelog.MaxPage
	}
	if fields.After == "" {
		return -1, fields.Limit, nil
	}
	after, err = parseIndex("after", fields.After)
	return after, fields.Limit, err
}

// parseIndex reads an index, which has one spelling.
func parseIndex(field, text string) (int64, error) {
	index, err := strconv.ParseInt(text, 10, 64)
	if err != nil || index < 0 || strconv.FormatInt(index, 10) != text {
		return 0, api.Invalid("%s must be the index of an entry, a decimal number from 0", field)
	}
	return index, nil
}

func (p *Paths) listEntries(ctx context.Context, _ *logical.Request, d *framework.FieldData) (*logical.Response, error) {
	after, limit, err := page(d)
	if err != nil {
		return nil, err
	}
	present, err := p.Log.Present(ctx)
	if err != nil {
		return nil, err
	}
	var indexes []int64
	if after < present.Size {
		for i := after + 1; i < min(present.Size, after+1+int64(limit)); i++ {
			indexes = append(indexes, i)
		}
	}
	return listed(indexes), nil
}

func listed(indexes []int64) *logical.Response {
	keys := make([]string, 0, len(indexes))
	for _, i := range indexes {
		keys = append(keys, strconv.FormatInt(i, 10))
	}
	return logical.ListResponse(keys)
}

func (p *Paths) listOfTenant(ctx context.Context, _ *logical.Request, d *framework.FieldData) (*logical.Response, error) {
	tenantID, err := api.TenantID(d)
	if err != nil {
		return nil, err
	}
	after, limit, err := page(d)
	if err != nil {
		return nil, err
	}
	indexes, err := p.Log.Tenant(ctx, tenantID, after, limit)
	if err != nil {
		return nil, err
	}
	return listed(indexes), nil
}

func (p *Paths) readEntry(ctx context.Context, _ *logical.Request, d *framework.FieldData) (*logical.Response, error) {
	return p.read(ctx, d, "")
}

func (p *Paths) readOfTenant(ctx context.Context, _ *logical.Request, d *framework.FieldData) (*logical.Response, error) {
	tenantID, err := api.TenantID(d)
	if err != nil {
		return nil, err
	}
	return p.read(ctx, d, tenantID)
}

// read reads an entry: of a tenant, if one is named.
func (p *Paths) read(ctx context.Context, d *framework.FieldData, tenantID string) (*logical.Response, error) {
	text, _ := d.Get("index").(string)
	index, err := parseIndex("index", text)
	if err != nil {
		return nil, err
	}
	size, named, err := api.IntField(d, "size")
	if err != nil {
		return nil, err
	}
	if named && size < 1 {
		return nil, api.Invalid("size must be that of a checkpoint, at least 1")
	}
	leaf, err := p.Log.Entry(ctx, index)
	if err != nil {
		return nil, err
	}
	if tenantID != "" {
		if event, err := events.Decode(leaf); err != nil || event.TenantID != tenantID {
			return nil, fmt.Errorf("entry %d of this tenant: %w", index, evidencelog.ErrNotFound)
		}
	}
	proof, err := p.Log.Proof(ctx, index, int64(size))
	if err != nil {
		return nil, err
	}
	var entry map[string]any
	if err := json.Unmarshal(leaf, &entry); err != nil {
		return nil, fmt.Errorf("%w: entry %d", evidencelog.ErrDamaged, index)
	}
	return &logical.Response{Data: map[string]any{
		"entry": entry, "leaf": base64.StdEncoding.EncodeToString(leaf),
		"leaf_hash": tlog.RecordHash(leaf).String(), "proof": proof,
	}}, nil
}
