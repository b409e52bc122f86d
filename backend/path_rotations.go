// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package backend

import (
	"context"
	"slices"

	"github.com/hashicorp/vault/sdk/framework"
	"github.com/hashicorp/vault/sdk/logical"

	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/api"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/keyring"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/rotation"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/tenant"
)

// rotateFields are the fields of a request that starts a rotation.
var rotateFields = map[string]*framework.FieldSchema{
	"tenant_id": api.TenantIDField,
	"reason": {
		Type:        framework.TypeString,
		Description: "Why, for the history.",
	},
	"key_type": {
		Type:        framework.TypeString,
		Description: "The type of the new key: xaes256-gcm or aes256-gcm. Default: as the active one.",
	},
	"idempotency_key": {
		Type:        framework.TypeString,
		Description: "A request with the same key gets the same rotation back. Default: Vault's request ID.",
	},
}

func (b *backend) rotationPaths() []*framework.Path {
	rotationFields := api.OK("The rotation.", rotationAnswer)
	return []*framework.Path{
		{
			Pattern: api.TenantPattern + "/dek/rotate$",
			Fields:  rotateFields,
			Operations: map[logical.Operation]framework.OperationHandler{
				logical.UpdateOperation: b.On(b.rotate, "rotate key", "Start a rotation of a tenant's key.", rotationFields),
			},
			HelpSynopsis: "Start a rotation of a tenant's key.",
			HelpDescription: "Answers at once with the rotation; dek/rotations/<rotation_id> tells how far it is. Everything that " +
				"the tenant has here is re-encrypted in the background, while reads and writes go on. The old key is destroyed " +
				"when nothing depends on it any more and the time that config has as retired_key_retention has passed. A tenant " +
				"has one rotation at a time: while one is unfinished the answer is 409 and names it.",
		},
		{
			Pattern: api.TenantPattern + "/dek/rotations/?$",
			Fields:  map[string]*framework.FieldSchema{"tenant_id": api.TenantIDField, "after": api.AfterField, "limit": api.LimitField},
			Operations: map[logical.Operation]framework.OperationHandler{
				logical.ListOperation: b.On(b.listRotations, "list rotations", "List a tenant's rotations.",
					api.ListedWith("Of each, by ID: started_at, status, trigger, and initiated_by (id, name, email).")),
			},
			HelpSynopsis: "List a tenant's rotations.",
			HelpDescription: "Newest first. The last 100 are kept. The vault command sorts keys by itself: with -detailed it " +
				"shows when each started and how it stands.",
		},
		{
			Pattern: api.TenantPattern + "/dek/rotations/(?P<rotation_id>[^/]+)$",
			Fields: map[string]*framework.FieldSchema{
				"tenant_id":   api.TenantIDField,
				"rotation_id": {Type: framework.TypeString, Description: "The rotation: rot- and a UUID."},
			},
			Operations: map[logical.Operation]framework.OperationHandler{
				logical.ReadOperation: b.On(b.readRotation, "read rotation", "Read how far a rotation is, or how it ended.", rotationFields),
			},
			HelpSynopsis: "A rotation.",
			HelpDescription: "How far it is and when it may end; once it is over, how it ended and what it did. Its status is " +
				"in_progress, paused or rolling_back, and once it is over completed, rolled_back or failed.",
		},
		{
			Pattern: api.TenantPattern + "/dek/rotations/(?P<rotation_id>[^/]+)/(?P<action>pause|resume|cancel|retry)$",
			Fields: map[string]*framework.FieldSchema{
				"tenant_id":   api.TenantIDField,
				"rotation_id": {Type: framework.TypeString, Description: "The rotation: rot- and a UUID."},
				"action":      {Type: framework.TypeString, Description: "pause, resume, cancel or retry."},
			},
			Operations: map[logical.Operation]framework.OperationHandler{
				logical.UpdateOperation: b.On(b.actOnRotation, "act-on rotation", "Pause, resume, cancel or retry a rotation.", rotationFields),
			},
			HelpSynopsis: "Pause, resume, cancel or retry a rotation.",
			HelpDescription: "cancel rolls everything back to the old key; it is refused once that is being retired. " +
				"retry goes on with the latest rotation, if it failed. Repeating an action that holds already changes nothing.",
		},
		b.allRotationsPath(),
	}
}

func (b *backend) rotate(ctx context.Context, req *logical.Request, d *framework.FieldData) (*logical.Response, error) {
	id, err := api.TenantID(d)
	if err != nil {
		return nil, err
	}
	want, err := b.rotationRequest(req, d)
	if err != nil {
		return nil, err
	}
	if _, err := b.tenants.Active(ctx, id); err != nil {
		return nil, err
	}
	return b.startRotation(ctx, req, id, want)
}

func (b *backend) startRotation(ctx context.Context, req *logical.Request, id string, want rotation.Request) (*logical.Response, error) {
	want.InitiatedBy = b.initiator(req)
	r, started, err := b.rotations.Start(ctx, id, want)
	if err != nil {
		return nil, err
	}
	if started {
		b.Logger().Info("rotation started", "tenant_id", id, "rotation_id", r.ID, "request_id", req.ID, "imported", want.Material != nil)
	}
	t, err := b.tenants.Active(ctx, id)
	if err != nil {
		return nil, err
	}
	v, err := b.rotations.View(ctx, t, r)
	if err != nil {
		return nil, err
	}
	return b.rotationResponse(ctx, v), nil
}

func (b *backend) rotationRequest(req *logical.Request, d *framework.FieldData) (want rotation.Request, err error) {
	want.Trigger, want.Manual = tenant.TriggerManual, true
	if want.Reason, err = api.Reason(d); err != nil {
		return want, err
	}
	keyType, named, err := api.TextField(d, "key_type")
	if err != nil {
		return want, err
	}
	if named && keyType != "" {
		if want.KeyType, err = keyring.ParseKeyType(keyType); err != nil {
			return want, err
		}
	}
	if want.IdempotencyKey, _, err = api.TextField(d, "idempotency_key"); err != nil {
		return want, err
	}
	if want.IdempotencyKey == "" {
		want.IdempotencyKey = req.ID
	}
	return want, nil
}

func (b *backend) listRotations(ctx context.Context, _ *logical.Request, d *framework.FieldData) (*logical.Response, error) {
	id, err := api.TenantID(d)
	if err != nil {
		return nil, err
	}
	p, err := api.PageField(d)
	if err != nil {
		return nil, err
	}
	t, err := b.tenants.Active(ctx, id)
	if err != nil {
		return nil, err
	}
	all, err := b.rotations.All(ctx, t)
	if err != nil {
		return nil, err
	}
	if p.After != "" {
		i := slices.IndexFunc(all, func(r *tenant.Rotation) bool { return r.ID == p.After })
		if i < 0 {
			return nil, api.Invalid("after must be a rotation of this tenant")
		}
		all = all[i+1:]
	}
	if p.Limit > 0 && len(all) > p.Limit {
		all = all[:p.Limit]
	}
	keys, info := make([]string, 0, len(all)), make(map[string]any, len(all))
	for _, r := range all {
		keys = append(keys, r.ID)
		info[r.ID] = map[string]any{
			"started_at": api.Time(r.StartedAt), "status": rotation.Status(r),
			"trigger": r.Trigger, "initiated_by": b.Person(ctx, r.InitiatedBy),
		}
	}
	return logical.ListResponseWithInfo(keys, info), nil
}

func (b *backend) readRotation(ctx context.Context, _ *logical.Request, d *framework.FieldData) (*logical.Response, error) {
	id, err := api.TenantID(d)
	if err != nil {
		return nil, err
	}
	rotationID, _ := d.Get("rotation_id").(string)
	v, err := b.rotations.Describe(ctx, id, rotationID)
	if err != nil {
		return nil, err
	}
	return b.rotationResponse(ctx, v), nil
}

func (b *backend) actOnRotation(ctx context.Context, req *logical.Request, d *framework.FieldData) (*logical.Response, error) {
	id, err := api.TenantID(d)
	if err != nil {
		return nil, err
	}
	rotationID, _ := d.Get("rotation_id").(string)
	action, _ := d.Get("action").(string)
	r, err := b.rotations.Do(ctx, id, rotationID, rotation.Action(action))
	if err != nil {
		return nil, err
	}
	b.Logger().Info("rotation changed", "tenant_id", id, "rotation_id", rotationID, "action", action, "request_id", req.ID)
	t, err := b.tenants.Active(ctx, id)
	if err != nil {
		return nil, err
	}
	v, err := b.rotations.View(ctx, t, r)
	if err != nil {
		return nil, err
	}
	return b.rotationResponse(ctx, v), nil
}
