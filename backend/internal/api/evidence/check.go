// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package evidence

import (
	"context"
	"encoding/base64"
	"errors"
	"net/http"

	"github.com/hashicorp/vault/sdk/framework"
	"github.com/hashicorp/vault/sdk/logical"

	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/api"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/restored"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/witnesses"
	events "github.com/vault-plugin-dek/vault-plugin-dek/evidence"
)

// maxEntries bounds the entries that a request brings along: Vault takes no longer list.
const maxEntries = 10_000

// whatToRun says how to learn what came back, and what to do about it.
const whatToRun = "only the entries that the log lacks say which keys and tenants came back: hand them in as entries, " +
	"or run dek evidence verify DIR --repair with an export from before, which takes them away again"

func (p *Paths) checkPath() *framework.Path {
	consistent := api.OK("The log goes on from the checkpoint.", map[string]*framework.FieldSchema{
		"consistent": api.Described(framework.TypeBool, "True."),
		"size":       api.Described(framework.TypeInt, "How many entries the log has."),
	})
	consistent[http.StatusConflict] = []framework.Response{{
		Description: "Storage went back, or the log is another one. data has consistent (false), size, missing (how many entries the kept log " +
			"has more), and, where entries were handed in, keys (a list of tenant_id, null for the mount's, version, null for a key without " +
			"one, key_id and which) and tenants (a list of IDs) that came back; else these are null.",
	}}
	return &framework.Path{
		Pattern: "evidence/check$",
		Fields: map[string]*framework.FieldSchema{
			"checkpoint": noteSchema("A checkpoint of this log that was kept outside."),
			"entries": {
				Type: framework.TypeSlice,
				Description: "The last entries of the kept log, up to its checkpoint, each as leaf of evidence/entries has it (base64); at most 10,000. " +
					"With them the answer says which keys and tenants came back.",
			},
		},
		Operations: map[logical.Operation]framework.OperationHandler{
			logical.UpdateOperation: p.on(p.check, "check evidence", "Compare the log with a checkpoint that was kept.", consistent),
		},
		HelpSynopsis: "Compare the evidence log with a checkpoint that was kept.",
		HelpDescription: "409 says that storage went back, as after a restored snapshot, and by how many entries; or that the log is another one. " +
			"Storage that went back does not know what had been destroyed, and a checkpoint does not say it: the entries do.",
	}
}

func (p *Paths) check(ctx context.Context, _ *logical.Request, d *framework.FieldData) (*logical.Response, error) {
	text, err := noteField(d, "checkpoint")
	if err != nil {
		return nil, err
	}
	kept := events.KeptCheckpoint([]byte(text))
	leaves, err := leavesField(d)
	if err != nil {
		return nil, err
	}
	more, err := p.Witnesses.Check(ctx, kept)
	if errors.Is(err, witnesses.ErrWentBack) || errors.Is(err, witnesses.ErrForked) {
		return p.wentBack(ctx, kept, leaves, more, err)
	}
	if errors.Is(err, witnesses.ErrLogGone) {
		return nil, api.Conflict(err.Error(), notConsistent(p.Log.Size(), more))
	}
	if err != nil {
		return nil, err
	}
	return &logical.Response{Data: map[string]any{"consistent": true, "size": p.Log.Size()}}, nil
}

// wentBack answers that the log is not the kept one any more, which why says.
func (p *Paths) wentBack(ctx context.Context, kept []byte, leaves [][]byte, more int64, why error) (*logical.Response, error) {
	answer := notConsistent(p.Log.Size(), more)
	text := why.Error() + "; " + whatToRun
	if leaves != nil {
		back, err := p.Restored.CameBack(ctx, kept, leaves)
		if errors.Is(err, restored.ErrEntries) {
			return nil, api.Invalid("%s", err)
		}
		if err != nil {
			return nil, err
		}
		answer["missing"], answer["keys"] = back.Missing, keysAnswer(back)
		answer["tenants"] = append([]string{}, back.Tenants...)
		text = why.Error()
	}
	return nil, api.Conflict(text, answer)
}

func notConsistent(size, missing int64) map[string]any {
	return map[string]any{"consistent": false, "size": size, "missing": missing, "keys": nil, "tenants": nil}
}

func keysAnswer(back *restored.Back) []map[string]any {
	keys := make([]map[string]any, 0, len(back.Keys))
	for i, key := range back.Keys {
		answer := map[string]any{"tenant_id": api.TextOrNull(back.Of[i]), "version": nil, "key_id": key.KeyID, "which": key.Which}
		if key.Version > 0 {
			answer["version"] = key.Version
		}
		keys = append(keys, answer)
	}
	return keys
}

// leavesField returns the entries that a request brings along, nil if there are none.
func leavesField(d *framework.FieldData) ([][]byte, error) {
	raw := d.Raw["entries"]
	if raw == nil {
		return nil, nil
	}
	list, ok := raw.([]any)
	if !ok || len(list) == 0 || len(list) > maxEntries {
		return nil, api.Invalid("entries must be a list of 1 to %d leaves in base64", maxEntries)
	}
	leaves := make([][]byte, len(list))
	for i, e := range list {
		text, _ := e.(string)
		leaf, err := base64.StdEncoding.DecodeString(text)
		if err != nil || len(leaf) == 0 || len(leaf) > events.MaxLeaf {
			return nil, api.Invalid("entries must be leaves in base64: element %d is none", i)
		}
		leaves[i] = leaf
	}
	return leaves, nil
}
