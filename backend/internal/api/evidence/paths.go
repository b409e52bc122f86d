// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

// Package evidence serves the evidence log: its entries with their proofs, the raw files
// of tlog-tiles, its keys and witnesses, and the people whom it names by random IDs.
package evidence

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/hashicorp/vault/sdk/framework"
	"github.com/hashicorp/vault/sdk/logical"

	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/api"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/evidencelog"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/ledger"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/people"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/restored"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/witnesses"
)

// openWithin bounds how long a request waits for the log to open, as after a start.
const openWithin = 5 * time.Second

// Paths has the rooms that the paths need.
type Paths struct {
	Operations *api.Operations
	Log        *evidencelog.Log
	People     *people.Store
	Witnesses  *witnesses.Store
	Ledger     *ledger.Ledger
	Restored   *restored.Engine
}

// All returns the paths. The rooms may be set afterwards.
func (p *Paths) All() []*framework.Path {
	return framework.PathAppend(p.logPaths(), p.entryPaths(), p.tilePaths(), p.witnessPaths(), p.peoplePaths(), []*framework.Path{p.checkPath()})
}

// on is Operations.On, for a handler that waits until the log is open.
func (p *Paths) on(h api.Handler, name, summary string, responses map[int][]framework.Response) *framework.PathOperation {
	return p.Operations.On(func(ctx context.Context, req *logical.Request, d *framework.FieldData) (*logical.Response, error) {
		ctx, cancel := context.WithTimeout(ctx, openWithin)
		defer cancel()
		resp, err := h(ctx, req, d)
		if errors.Is(err, context.DeadlineExceeded) {
			return nil, api.Refuse(http.StatusServiceUnavailable, "the evidence log is not open yet, or storage does not answer: try again")
		}
		return resp, err
	}, name, summary, responses)
}

func (p *Paths) logPaths() []*framework.Path {
	key := api.OK("The key that signs the log.", map[string]*framework.FieldSchema{
		"vkey":       api.Described(framework.TypeString, "Its verifier key, as of a signed note."),
		"origin":     api.Described(framework.TypeString, "The log's name."),
		"created_at": api.Described(framework.TypeTime, "When the key was made."),
		"previous":   api.Described(framework.TypeStringSlice, "The verifier keys of older keys of this log, oldest first."),
	})
	checkpoint := api.OK("The present checkpoint.", map[string]*framework.FieldSchema{
		"checkpoint": api.Described(framework.TypeString, "The signed note."),
		"size":       api.Described(framework.TypeInt, "How many entries the log has."),
		"root_hash":  api.Described(framework.TypeString, "The root of its Merkle tree, in base64."),
		"signed_at":  api.Described(framework.TypeTime, "When it was signed."),
		"cosigned":   api.Described(framework.TypeString, "The greatest checkpoint that all witnesses cosigned; empty: none."),
	})
	rotated := api.OK("The new key.", map[string]*framework.FieldSchema{
		"vkey": api.Described(framework.TypeString, "Its verifier key."),
	})
	return []*framework.Path{{
		Pattern: "evidence/key$",
		Operations: map[logical.Operation]framework.OperationHandler{
			logical.ReadOperation: p.on(p.readKey, "read evidence-key", "Read the verifier key of the evidence log.", key),
		},
		HelpSynopsis:    "The key that signs the evidence log.",
		HelpDescription: "Keep the verifier key where whoever could change the log could not change it: dek evidence verify takes it as --vkey.",
	}, {
		Pattern: "evidence/key/rotate$",
		Fields: map[string]*framework.FieldSchema{
			"reason": {Type: framework.TypeString, Description: "Why. The log has its salted hash."},
		},
		Operations: map[logical.Operation]framework.OperationHandler{
			logical.UpdateOperation: p.on(p.rotateKey, "rotate evidence-key", "Make a new signing key.", rotated),
		},
		HelpSynopsis:    "A new key that signs the evidence log.",
		HelpDescription: "The change is an entry of the log. The checkpoint that ends with it has the signatures of both keys, later ones that of the new.",
	}, {
		Pattern: "evidence/checkpoint$",
		Operations: map[logical.Operation]framework.OperationHandler{
			logical.ReadOperation: p.on(p.readCheckpoint, "read evidence-checkpoint", "Read the present checkpoint.", checkpoint),
		},
		HelpSynopsis:    "The present checkpoint of the evidence log.",
		HelpDescription: "A checkpoint that is kept elsewhere proves later that the entries before it are what they were.",
	}}
}

func (p *Paths) readKey(ctx context.Context, _ *logical.Request, _ *framework.FieldData) (*logical.Response, error) {
	key, err := p.Log.Key(ctx)
	if err != nil {
		return nil, err
	}
	return &logical.Response{Data: map[string]any{
		"vkey": key.VKey, "origin": key.Origin, "created_at": api.Time(key.CreatedAt), "previous": key.Previous,
	}}, nil
}

func (p *Paths) rotateKey(ctx context.Context, _ *logical.Request, d *framework.FieldData) (*logical.Response, error) {
	reason, err := api.Reason(d)
	if err != nil {
		return nil, err
	}
	head, err := p.Ledger.Head(ctx, reason)
	if err != nil {
		return nil, err
	}
	vkey, err := p.Log.RotateKey(ctx, head)
	if err != nil && vkey == "" {
		return nil, err
	}
	resp := &logical.Response{Data: map[string]any{"vkey": vkey}}
	if err != nil { // it goes on
		resp.AddWarning(api.EvidencePending)
	}
	return resp, nil
}

func (p *Paths) readCheckpoint(ctx context.Context, _ *logical.Request, _ *framework.FieldData) (*logical.Response, error) {
	present, err := p.Log.Present(ctx)
	if err != nil {
		return nil, err
	}
	if present.Note == nil {
		return nil, fmt.Errorf("%w: it has no checkpoint yet", evidencelog.ErrNotFound)
	}
	cosigned, err := p.Witnesses.Cosigned(ctx)
	if err != nil {
		return nil, err
	}
	return &logical.Response{Data: map[string]any{
		"checkpoint": string(present.Note), "size": present.Size, "root_hash": present.RootHash,
		"signed_at": api.Time(present.SignedAt), "cosigned": string(cosigned),
	}}, nil
}
