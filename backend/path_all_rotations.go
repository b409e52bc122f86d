// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package backend

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"strings"

	"github.com/hashicorp/vault/sdk/framework"
	"github.com/hashicorp/vault/sdk/logical"

	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/api"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/intents"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/schedule"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/storage"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/tenant"
)

// maxTenantsNamed bounds the tenants that one request can make due.
const maxTenantsNamed = 10_000

// allRotationsPath is that of the rotations of all tenants together.
func (b *backend) allRotationsPath() *framework.Path {
	return &framework.Path{
		Pattern: "rotations/?$",
		Fields: map[string]*framework.FieldSchema{
			"after": api.AfterField, "limit": api.LimitField,
			"all":     {Type: framework.TypeBool, Description: "Rotate every tenant."},
			"tenants": {Type: framework.TypeSlice, Description: "Rotate these: up to 10,000 tenant IDs."},
			"reason":  {Type: framework.TypeString, Description: "Why, for the history."},
			"include_paused": {
				Type:        framework.TypeBool,
				Description: "Rotate tenants, too, whose rotation is paused. Default: false.",
			},
		},
		Operations: map[logical.Operation]framework.OperationHandler{
			logical.ListOperation: b.On(b.listUnfinished, "list unfinished-rotations", "List the unfinished rotations of all tenants.", api.Listed),
			logical.UpdateOperation: b.On(b.rotateMany, "rotate keys", "Make all tenants, or some, due now.",
				api.OK("How many.", map[string]*framework.FieldSchema{"scheduled": api.Described(framework.TypeInt, "How many tenants are due now."), "skipped_paused": api.Described(framework.TypeInt, "How many are paused, and rotated once they no longer are.")})),
		},
		HelpSynopsis: "The unfinished rotations of all tenants; rotate many.",
		HelpDescription: "Listed, the keys are <tenant_id>/<rotation_id>. Written to, with all or tenants, it makes those " +
			"due now, and the schedule rotates them within its budget (max_concurrent_rotations), without jitter: " +
			"the answer to a leaked key. Tenants whose rotation is paused wait until they no longer are, unless include_paused is true.",
	}
}

func (b *backend) listUnfinished(ctx context.Context, _ *logical.Request, d *framework.FieldData) (*logical.Response, error) {
	p, err := api.PageField(d)
	if err != nil {
		return nil, err
	}
	keys, err := b.unfinished(ctx)
	if err != nil {
		return nil, err
	}
	return logical.ListResponse(p.OfSorted(keys)), nil
}

// unfinished lists the unfinished rotations as <tenant_id>/<rotation_id>.
func (b *backend) unfinished(ctx context.Context) ([]string, error) {
	rotations, err := b.unfinishedRotations(ctx)
	if err != nil {
		return nil, err
	}
	unfinished := make([]bool, len(rotations))
	err = storage.Each(ctx, len(rotations), func(n int) (err error) {
		unfinished[n], err = b.isUnfinished(ctx, rotations[n])
		return err
	})
	if err != nil {
		return nil, err
	}
	var keys []string
	for n, i := range rotations {
		if unfinished[n] {
			keys = append(keys, i.TenantID+"/"+i.RotationID)
		}
	}
	slices.Sort(keys)
	return slices.Compact(keys), nil // of a rotation that was retried an earlier intent may be left
}

// isUnfinished leaves out the entries of rotations that are about to start, or
// that never did.
func (b *backend) isUnfinished(ctx context.Context, i intents.Intent) (bool, error) {
	t, err := b.tenants.Read(ctx, i.TenantID)
	if errors.Is(err, tenant.ErrNotFound) {
		return false, nil
	}
	if errors.Is(err, tenant.ErrDamaged) {
		return true, nil // for all that is known
	}
	if err != nil {
		return false, err
	}
	return t.Rotation != nil && t.Rotation.ID == i.RotationID, nil
}

// rotateMany makes tenants due now. It starts no rotation itself: the schedule
// does, within its budget, and goes on after a restart.
func (b *backend) rotateMany(ctx context.Context, req *logical.Request, d *framework.FieldData) (*logical.Response, error) {
	reason, err := api.Reason(d)
	if err != nil {
		return nil, err
	}
	all, _, err := api.BoolField(d, "all")
	if err != nil {
		return nil, err
	}
	paused, _, err := api.BoolField(d, "include_paused")
	if err != nil {
		return nil, err
	}
	named := d.Raw["tenants"] != nil
	if all == named {
		return nil, api.Invalid("one of all=true and tenants must be given")
	}
	var ids []string
	if !all {
		if ids, err = tenantList(d.Raw["tenants"]); err != nil {
			return nil, err
		}
	}
	by := b.initiator(req)
	if _, err := b.ledger.Actor(ctx, by); err != nil { // records have the ID alone
		return nil, err
	}
	// Vault sends a request again, with the same ID, when the plugin crashed.
	did, err := b.demand(ctx, ids, schedule.Demand{
		Request: "rotations/" + req.ID, Reason: reason, By: by, IncludePaused: paused,
	})
	if err != nil {
		return nil, err
	}
	b.Logger().Info("rotations asked for", "tenants", did.Scheduled, "skipped_paused", did.SkippedPaused, "all", all, "request_id", req.ID)
	return &logical.Response{Data: map[string]any{"scheduled": did.Scheduled, "skipped_paused": did.SkippedPaused}}, nil
}

// demand asks for rotations of some tenants, of all if ids is nil.
func (b *backend) demand(ctx context.Context, ids []string, d schedule.Demand) (schedule.Demanded, error) {
	if ids == nil {
		return b.schedule.DemandAll(ctx, d)
	}
	did, err := b.schedule.DemandSome(ctx, ids, d)
	var named *schedule.NamedError
	if errors.As(err, &named) {
		err = api.Refuse(http.StatusNotFound, "%s", named)
	}
	return did, err
}

func tenantList(raw any) ([]string, error) {
	list, ok := raw.([]any)
	if text, isText := raw.(string); isText { // from the command line
		ok = true
		for id := range strings.SplitSeq(text, ",") {
			list = append(list, id)
		}
	}
	if !ok || len(list) == 0 || len(list) > maxTenantsNamed {
		return nil, api.Invalid("tenants must be a list of 1 to %d tenant IDs", maxTenantsNamed)
	}
	var ids []string
	seen := map[string]bool{}
	for i, e := range list {
		id, _ := e.(string)
		if !api.UUIDPattern.MatchString(id) {
			return nil, api.Invalid("tenants must be a list of UUIDs in lower case: element %d is not", i)
		}
		if !seen[id] {
			seen[id] = true
			ids = append(ids, id)
		}
	}
	return ids, nil
}
