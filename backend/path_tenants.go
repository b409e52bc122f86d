// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package backend

import (
	"context"

	"github.com/hashicorp/vault/sdk/framework"
	"github.com/hashicorp/vault/sdk/logical"

	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/api"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/itemstore"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/rotation"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/tenant"
)

// tenantAnswer describes a tenant.
var tenantAnswer = map[string]*framework.FieldSchema{
	"tenant_id":         api.Described(framework.TypeString, "The tenant's ID."),
	"display_name":      api.Described(framework.TypeString, "A name for people."),
	"key_type":          api.Described(framework.TypeString, "The type of the active key."),
	"rotation_interval": api.Described(framework.TypeString, "The tenant's own interval: 90_DAYS and its like as they were given, else a duration in its largest unit, such as 30d or 36h; empty: the organization's."),
	"rotation_paused":   api.Described(framework.TypeBool, "Whether the schedule passes the tenant over."),
	"created_at":        api.Described(framework.TypeTime, "When the tenant was created."),
	"state":             api.Described(framework.TypeString, "active or deleting."),
	"item_counts":       api.Described(framework.TypeMap, "How many items the tenant has, by kind."),
	"key_provider":      {Type: framework.TypeString, Description: "The key provider that the tenant's own key-encryption key is under; missing: the mount's wraps its keys."},
	"current_key_id":    api.Described(framework.TypeString, "The ID of the active key."),
	"last_rotated_at":   api.Described(framework.TypeTime, "When the active key took over from another; null: never."),
	"next_rotation_at":  api.Described(framework.TypeTime, "When the next rotation is due; null: the schedule passes the tenant over, or it is being deleted."),
	"delete_after":      api.Described(framework.TypeTime, "Until when the tenant can be restored; null: it is not being deleted."),
}

func (b *backend) tenantPaths() []*framework.Path {
	answer := api.OK("The tenant.", tenantAnswer)
	return []*framework.Path{
		{
			Pattern: api.TenantPattern + "$",
			Fields: map[string]*framework.FieldSchema{
				"tenant_id": api.TenantIDField,
				"display_name": {
					Type:        framework.TypeString,
					Description: "A name for people.",
				},
				"key_type": {
					Type:        framework.TypeString,
					Description: "xaes256-gcm (default) or aes256-gcm. On a tenant that exists it changes by a rotation only.",
				},
				"rotation_interval": {
					Type:        framework.TypeString,
					Description: "How old the tenant's key may get: 90_DAYS, 120_DAYS, 180_DAYS or 365_DAYS, or any duration from 1h to 3650d, such as 30d; empty: as the organization's.",
				},
				"rotation_paused": {
					Type:        framework.TypeBool,
					Description: "Whether the schedule passes the tenant over.",
				},
				"key_provider": {
					Type:        framework.TypeString,
					Description: "Only on creation: the key provider to put a key-encryption key of the tenant's own under, one whose tenants name the tenant. Default: the mount's wraps its keys. On a tenant that exists it changes by kek/rotate only.",
				},
				"must_exist": {
					Type:        framework.TypeBool,
					Description: "Whether a write that would create the tenant is refused (404): for changing settings without creating a mistyped ID.",
				},
				"deletion_window": deletionWindowField,
			},
			Operations: map[logical.Operation]framework.OperationHandler{
				logical.ReadOperation:   b.On(b.readTenant, "read tenant", "Read a tenant.", answer),
				logical.UpdateOperation: b.On(b.writeTenant, "write tenant", "Create a tenant, or change its settings.", answer),
				logical.DeleteOperation: b.On(b.deleteTenant, "delete tenant", "Delete a tenant by destroying its keys.", goesOrGone),
			},
			HelpSynopsis: "A tenant.",
			HelpDescription: "Writing creates the tenant with version 1 of its key, or changes the settings that are named. " +
				"Deleting destroys its keys, and with them everything encrypted under them, once the deletion window has " +
				"passed; until then it can be restored.",
		},
		b.restorePath(),
	}
}

func (b *backend) readTenant(ctx context.Context, _ *logical.Request, d *framework.FieldData) (*logical.Response, error) {
	id, err := api.TenantID(d)
	if err != nil {
		return nil, err
	}
	t, err := b.visibleTenant(ctx, id)
	if err != nil {
		return nil, err
	}
	return b.tenantResponse(ctx, t)
}

func (b *backend) writeTenant(ctx context.Context, _ *logical.Request, d *framework.FieldData) (*logical.Response, error) {
	id, err := api.TenantID(d)
	if err != nil {
		return nil, err
	}
	change, err := parseTenantChange(d)
	if err != nil {
		return nil, err
	}
	t, created, err := b.rotations.WriteTenant(ctx, rotation.TenantWrite{
		TenantID: id, KeyType: change.keyType, Provider: change.provider, ProviderNamed: change.providerNamed, MustExist: change.mustExist, Change: change.apply,
	})
	if err != nil {
		return nil, err
	}
	if created {
		return b.describeTenant(ctx, t, nil) // a new tenant has no pages to list
	}
	return b.tenantResponse(ctx, t)
}

func (b *backend) tenantResponse(ctx context.Context, t *tenant.Record) (*logical.Response, error) {
	usage, err := b.items.Usage(ctx, t)
	if err != nil {
		return nil, err
	}
	return b.describeTenant(ctx, t, usage)
}

func (b *backend) describeTenant(ctx context.Context, t *tenant.Record, usage itemstore.Usage) (*logical.Response, error) {
	settings, err := b.settings.Rotation(ctx)
	if err != nil {
		return nil, err
	}
	active := t.Keys.Active()
	resp := &logical.Response{Data: map[string]any{
		"tenant_id":         t.ID,
		"display_name":      t.DisplayName,
		"key_type":          string(active.KeyType),
		"rotation_interval": t.RotationInterval,
		"rotation_paused":   t.RotationPaused,
		"created_at":        api.Time(t.CreatedAt),
		"state":             string(t.State),
		"item_counts":       usage.Items().Map(),
		"current_key_id":    active.KeyID,
		"last_rotated_at":   api.Time(t.ChangedAt()),
		"next_rotation_at":  api.Time(t.NextRotation(settings)),
		"delete_after":      api.Time(t.DeleteAfter),
	}}
	if provider := t.KeyProvider(); provider != "" {
		resp.Data["key_provider"] = provider
	}
	return resp, nil
}
