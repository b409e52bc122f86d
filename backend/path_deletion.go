// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package backend

import (
	"context"
	"errors"
	"net/http"
	"time"

	"github.com/hashicorp/vault/sdk/framework"
	"github.com/hashicorp/vault/sdk/logical"

	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/actor"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/api"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/deletion"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/tenant"
)

var deletionWindowField = &framework.FieldSchema{
	Type:        framework.TypeDurationSecond,
	Query:       true,
	Description: "On delete: how long the tenant can be restored: from min_deletion_window (config) to 720h; 0, where that is allowed, destroys it at once. Default: 168h, or min_deletion_window if that is longer.",
}

// goesOrGone describes the answer to a delete.
var goesOrGone = map[int][]framework.Response{
	http.StatusOK:        {{Description: "The tenant, which can be restored until delete_after.", Fields: tenantAnswer}},
	http.StatusNoContent: {{Description: "The tenant's keys are gone, and with them all that is encrypted under them; what is left goes within minutes."}},
}

func (b *backend) restorePath() *framework.Path {
	return &framework.Path{
		Pattern: api.TenantPattern + "/restore$",
		Fields:  map[string]*framework.FieldSchema{"tenant_id": api.TenantIDField},
		Operations: map[logical.Operation]framework.OperationHandler{
			logical.UpdateOperation: b.On(b.restoreTenant, "restore tenant", "Bring a tenant back that is being deleted.", api.OK("The tenant.", tenantAnswer)),
		},
		HelpSynopsis:    "Bring a tenant back that is being deleted.",
		HelpDescription: "Possible until delete_after. The tenant comes back whole: items, keys and history.",
	}
}

// deletionWindow returns the window that a request names, nil if it names none.
func deletionWindow(d *framework.FieldData) (*time.Duration, error) {
	raw, named := d.Raw["deletion_window"]
	if !named || raw == nil {
		return nil, nil
	}
	window, err := durationOf("deletion_window", raw, deletion.MaxWindow)
	if err != nil {
		return nil, err
	}
	return &window, nil
}

func (b *backend) deleteTenant(ctx context.Context, req *logical.Request, d *framework.FieldData) (*logical.Response, error) {
	id, err := api.TenantID(d)
	if err != nil {
		return nil, err
	}
	window, err := deletionWindow(d)
	if err != nil {
		return nil, err
	}
	t, err := b.deletion.Delete(ctx, id, deletion.Wish{
		Window: window, By: b.initiator(req), Request: actor.RequestDigest(req.ID),
	})
	if err != nil || t == nil {
		return nil, err
	}
	b.Logger().Info("tenant is being deleted", "tenant_id", id, "delete_after", api.Time(t.DeleteAfter), "request_id", req.ID)
	if !deletion.Due(t, b.now()) {
		return b.tenantResponse(ctx, t)
	}
	return nil, nil
}

func (b *backend) restoreTenant(ctx context.Context, req *logical.Request, d *framework.FieldData) (*logical.Response, error) {
	id, err := api.TenantID(d)
	if err != nil {
		return nil, err
	}
	t, restored, err := b.deletion.Restore(ctx, id)
	if err != nil {
		return nil, err
	}
	if restored {
		b.Logger().Info("tenant is restored", "tenant_id", id, "request_id", req.ID)
	}
	return b.tenantResponse(ctx, t)
}

// visibleTenant reads the record of a tenant that is not being shredded.
func (b *backend) visibleTenant(ctx context.Context, id string) (*tenant.Record, error) {
	t, err := b.tenants.Active(ctx, id)
	if errors.Is(err, tenant.ErrDeleting) {
		return b.tenants.Read(ctx, id)
	}
	return t, err
}
