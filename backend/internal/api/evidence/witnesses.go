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

// maxNote bounds the notes that a request brings along.
const maxNote = 64 << 10

func (p *Paths) witnessPaths() []*framework.Path {
	kept := api.OK("The witnesses.", map[string]*framework.FieldSchema{
		"witnesses": api.Described(framework.TypeStringSlice, "Their verifier keys."),
	})
	done := map[int][]framework.Response{http.StatusNoContent: {{Description: "The cosignatures are kept."}}}
	return []*framework.Path{{
		Pattern: "evidence/witnesses$",
		Fields: map[string]*framework.FieldSchema{
			"witnesses": {Type: framework.TypeStringSlice, Description: "The verifier keys of all witnesses, at most 16."},
		},
		Operations: map[logical.Operation]framework.OperationHandler{
			logical.ReadOperation:   p.on(p.readWitnesses, "read evidence-witnesses", "Read whose cosignatures are kept.", kept),
			logical.UpdateOperation: p.on(p.writeWitnesses, "write evidence-witnesses", "Say whose cosignatures are kept.", kept),
		},
		HelpSynopsis:    "The witnesses of the evidence log.",
		HelpDescription: "A witness cosigns a checkpoint that goes on from what it saw before: see dek evidence witness.",
	}, {
		Pattern: "evidence/cosign$",
		Fields:  map[string]*framework.FieldSchema{"cosignature": noteSchema("Signature lines of a witness, for any checkpoint that is kept.")},
		Operations: map[logical.Operation]framework.OperationHandler{
			logical.UpdateOperation: p.on(p.cosign, "cosign evidence", "Keep a witness's cosignatures.", done),
		},
		HelpSynopsis:    "Keep what a witness signed.",
		HelpDescription: "Lines that do not verify are refused. evidence/checkpoint answers the greatest checkpoint that all witnesses signed.",
	}}
}

func (p *Paths) readWitnesses(ctx context.Context, _ *logical.Request, _ *framework.FieldData) (*logical.Response, error) {
	vkeys, err := p.Witnesses.Witnesses(ctx)
	if err != nil {
		return nil, err
	}
	return &logical.Response{Data: map[string]any{"witnesses": vkeys}}, nil
}

func (p *Paths) writeWitnesses(ctx context.Context, _ *logical.Request, d *framework.FieldData) (*logical.Response, error) {
	raw, named := d.GetOk("witnesses")
	named = named && d.Raw["witnesses"] != nil // null is as if it were not there
	if !named {
		return nil, api.Invalid("witnesses is missing: name all of them")
	}
	vkeys, _ := raw.([]string)
	if err := p.Witnesses.SetWitnesses(ctx, vkeys); err != nil {
		return nil, err
	}
	return &logical.Response{Data: map[string]any{"witnesses": vkeys}}, nil
}

// noteSchema describes a note that a request must bring along.
func noteSchema(description string) *framework.FieldSchema {
	return &framework.FieldSchema{Type: framework.TypeString, Description: description}
}

// noteField returns a note that a request must bring along.
func noteField(d *framework.FieldData, field string) (string, error) {
	text, _ := d.Get(field).(string)
	if text == "" {
		return "", api.Invalid("%s is missing", field)
	}
	if len(text) > maxNote {
		return "", api.Invalid("%s must have at most %d bytes", field, maxNote)
	}
	return text, nil
}

func (p *Paths) cosign(ctx context.Context, _ *logical.Request, d *framework.FieldData) (*logical.Response, error) {
	lines, err := noteField(d, "cosignature")
	if err != nil {
		return nil, err
	}
	return nil, p.Witnesses.Cosign(ctx, 0, lines)
}
