// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package kek

import (
	"context"
	"errors"

	"github.com/hashicorp/vault/sdk/framework"
	"github.com/hashicorp/vault/sdk/logical"

	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/api"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/keystore"
)

func (r *Rooms) tenantPaths() []*framework.Path {
	answer := api.OK("The tenant's key-encryption key.", answerFields)
	return []*framework.Path{
		{
			Pattern: api.TenantPattern + "/kek$",
			Fields:  map[string]*framework.FieldSchema{"tenant_id": api.TenantIDField},
			Operations: map[logical.Operation]framework.OperationHandler{
				logical.ReadOperation: r.On(r.readTenant, "read tenant-key-encryption-key", "Read which key-encryption key wraps a tenant's keys, and how its latest move goes.", answer),
			},
			HelpSynopsis: "The key-encryption key (KEK) that wraps a tenant's keys.",
			HelpDescription: "One of the tenant's own, which is under a key provider; or the mount's, and then provider is empty. " +
				"The rest describes the latest move of the tenant's keys from one to another.",
		},
		{
			Pattern: api.TenantPattern + "/kek/rotate$",
			Fields: map[string]*framework.FieldSchema{
				"tenant_id": api.TenantIDField,
				"reason":    reasonField,
				"provider": {
					Type:        framework.TypeString,
					Description: "The key provider to put a KEK of the tenant's own under, one whose tenants name the tenant. Empty: the mount's KEK wraps its keys again. Default: where they are.",
				},
				"idempotency_key": idemField,
			},
			Operations: map[logical.Operation]framework.OperationHandler{
				logical.UpdateOperation: r.On(r.rotateTenant, "rotate tenant-key-encryption-key", "Start moving a tenant's keys to a new key-encryption key.", answer),
			},
			HelpSynopsis: "Start moving a tenant's keys to a new key-encryption key.",
			HelpDescription: "Answers at once; the tenant's keys are then wrapped anew in the background, while everything goes on, and " +
				"the KEK of its own that they leave is destroyed. Under the provider that it is under already, the new KEK is wrapped by " +
				"the latest version of the owner's key. After moving under a provider a rotation of the tenant's key is due. While " +
				"a move is unfinished the answer is 409. A provider that denies is 424, also one that is left, one that is " +
				"unavailable 503, and nothing has changed.",
		},
	}
}

func (r *Rooms) readTenant(ctx context.Context, _ *logical.Request, d *framework.FieldData) (*logical.Response, error) {
	id, err := api.TenantID(d)
	if err != nil {
		return nil, err
	}
	v, err := r.Engine().ViewTenant(ctx, id)
	if err != nil {
		return nil, err
	}
	return r.response(ctx, v), nil
}

func (r *Rooms) rotateTenant(ctx context.Context, req *logical.Request, d *framework.FieldData) (*logical.Response, error) {
	id, err := api.TenantID(d)
	if err != nil {
		return nil, err
	}
	want, err := r.requestOf(req, d)
	if err != nil {
		return nil, err
	}
	t, started, err := r.Engine().StartTenant(ctx, id, want)
	if errors.Is(err, keystore.ErrTenantProvider) {
		return nil, api.Invalid("provider must be one whose tenants name this tenant, or *")
	}
	if err != nil {
		return nil, err
	}
	if started {
		r.Log().Info("moving a tenant's keys to another key-encryption key started",
			"tenant_id", id, "kek_id", t.KEKID(), "provider", t.KeyProvider(), "request_id", req.ID)
	}
	return r.readTenant(ctx, req, d)
}
