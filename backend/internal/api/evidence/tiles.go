// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package evidence

import (
	"context"
	"net/http"

	"github.com/hashicorp/vault/sdk/framework"
	"github.com/hashicorp/vault/sdk/logical"

	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/api"
)

// The content types of tlog-tiles.
const (
	typeText  = "text/plain; charset=utf-8"
	typeBytes = "application/octet-stream"
)

func (p *Paths) tilePaths() []*framework.Path {
	raw := api.OK("The file, as it is.", map[string]*framework.FieldSchema{
		logical.HTTPContentType: api.Described(framework.TypeString, "The content type of tlog-tiles."),
		logical.HTTPRawBody:     api.Described(framework.TypeString, "The body."),
		logical.HTTPStatusCode:  api.Described(framework.TypeInt, "200."),
	})
	const about = "The files of c2sp.org/tlog-tiles as they are, so that any of its clients reads the log with a token."
	return []*framework.Path{{
		Pattern: "evidence/tlog/checkpoint$",
		Operations: map[logical.Operation]framework.OperationHandler{
			logical.ReadOperation: p.on(p.rawCheckpoint, "read evidence-tlog-checkpoint", "Read the raw checkpoint.", raw),
		},
		HelpSynopsis: "The checkpoint of the evidence log, raw.", HelpDescription: about,
	}, {
		Pattern: "evidence/tlog/tile/(?P<tile>.+)$",
		Fields: map[string]*framework.FieldSchema{
			"tile": {Type: framework.TypeString, Description: "The rest of the tile's path, such as 0/000 or entries/000.p/17."},
		},
		Operations: map[logical.Operation]framework.OperationHandler{
			logical.ReadOperation: p.on(p.rawTile, "read evidence-tlog-tile", "Read a raw tile, or a bundle of entries.", raw),
		},
		HelpSynopsis: "A tile of the evidence log, raw.", HelpDescription: about,
	}}
}

func rawFile(contentType string, data []byte) *logical.Response {
	return &logical.Response{Data: map[string]any{
		logical.HTTPContentType: contentType, logical.HTTPRawBody: data, logical.HTTPStatusCode: http.StatusOK,
	}}
}

func (p *Paths) rawCheckpoint(ctx context.Context, _ *logical.Request, _ *framework.FieldData) (*logical.Response, error) {
	text, err := p.Log.Checkpoint(ctx, 0)
	if err != nil {
		return nil, err
	}
	return rawFile(typeText, text), nil
}

func (p *Paths) rawTile(ctx context.Context, _ *logical.Request, d *framework.FieldData) (*logical.Response, error) {
	path, _ := d.Get("tile").(string)
	data, err := p.Log.Tile(ctx, "tile/"+path)
	if err != nil {
		return nil, err
	}
	return rawFile(typeBytes, data), nil
}

func (p *Paths) peoplePaths() []*framework.Path {
	person := api.OK("The person.", map[string]*framework.FieldSchema{
		"id":    api.Described(framework.TypeString, "The name in Vault's auth method, or of the token."),
		"name":  api.Described(framework.TypeString, "The person's name."),
		"email": api.Described(framework.TypeString, "The person's address."),
	})
	gone := map[int][]framework.Response{http.StatusNoContent: {{Description: "The person is forgotten."}}}
	return []*framework.Path{{
		Pattern: "evidence/people/(?P<person>[^/]+)$",
		Fields: map[string]*framework.FieldSchema{
			"person": {Type: framework.TypeString, Description: "The random ID by which entries name the person, in actor, or the id that initiated_by has."},
		},
		Operations: map[logical.Operation]framework.OperationHandler{
			logical.ReadOperation:   p.on(p.readPerson, "read evidence-person", "Read who an actor is.", person),
			logical.DeleteOperation: p.on(p.forgetPerson, "delete evidence-person", "Forget who an actor is.", gone),
		},
		HelpSynopsis: "Who an actor in the evidence log is.",
		HelpDescription: "Names and emails are nowhere else, so deleting this erases them everywhere: the log keeps the random ID, " +
			"and rotations, holders and tombstones keep the person's id. A person that acts again is known again.",
	}}
}

var errNobody = api.Refuse(http.StatusNotFound, "nobody is known by this ID")

func (p *Paths) readPerson(ctx context.Context, _ *logical.Request, d *framework.FieldData) (*logical.Response, error) {
	id, _ := d.Get("person").(string)
	person, err := p.People.Person(ctx, id)
	if err != nil {
		return nil, err
	}
	if person == nil {
		return nil, errNobody
	}
	return &logical.Response{Data: map[string]any{"id": person.ID, "name": person.Name, "email": person.Email}}, nil
}

func (p *Paths) forgetPerson(ctx context.Context, _ *logical.Request, d *framework.FieldData) (*logical.Response, error) {
	id, _ := d.Get("person").(string)
	found, err := p.People.Erase(ctx, id)
	if err == nil && !found {
		err = errNobody
	}
	return nil, err
}
