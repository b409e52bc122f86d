// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package backend

import (
	"context"
	"errors"
	"net/http"

	"github.com/hashicorp/vault/sdk/framework"
	"github.com/hashicorp/vault/sdk/logical"

	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/api"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/itemstore"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/keyring"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/tenant"
)

// versionAnswer describes one version, as the list in dek has it.
var versionAnswer = map[string]*framework.FieldSchema{
	"version":                   api.Described(framework.TypeInt, "The version's number."),
	"key_id":                    api.Described(framework.TypeString, "Its key ID."),
	"key_type":                  api.Described(framework.TypeString, "xaes256-gcm or aes256-gcm."),
	"state":                     api.Described(framework.TypeString, "pending, active, deactivated or destroyed."),
	"created_at":                api.Described(framework.TypeTime, "When it was made."),
	"activated_at":              api.Described(framework.TypeTime, "When it became the active one; null: never."),
	"deactivated_at":            api.Described(framework.TypeTime, "When another took over; null: it is active."),
	"destroyed_at":              api.Described(framework.TypeTime, "When its keys were destroyed; null: they are there."),
	"page_key_destroyed_at":     api.Described(framework.TypeTime, "When the key of its pages was destroyed; null: it is there."),
	"external_key_destroyed_at": api.Described(framework.TypeTime, "When the key of what has left the engine under it was destroyed; null: it is there, or never was."),
	"external_key_destroy_after": {
		Type:        framework.TypeTime,
		Description: "When the external key is to be destroyed, since all holders have reported the version gone; else missing.",
	},
	"last_external_use": api.Described(framework.TypeString, "The day, in UTC, on which something was last sealed or opened for callers under it; null: never."),
	"external_use":      api.Described(framework.TypeBool, "Whether something has left the engine under it: ciphertexts or data keys."),
	"pages":             api.Described(framework.TypeInt, "How many pages of items are on it."),
	"rotation_id":       api.Described(framework.TypeString, "The rotation that made it; empty for the first."),
	"imported":          {Type: framework.TypeBool, Description: "True if its owner made its page key; else missing."},
}

func (b *backend) versionPaths() []*framework.Path {
	return []*framework.Path{
		{
			Pattern: api.TenantPattern + "/dek/config$",
			Fields: map[string]*framework.FieldSchema{
				"tenant_id": api.TenantIDField,
				"min_decryption_version": {
					Type:        framework.TypeInt,
					Description: "The least version whose ciphertexts decrypt and rewrap open: from 1 to the current version.",
				},
				"follow_holders": {
					Type: framework.TypeBool,
					Description: "Whether all places that keep ciphertexts of the tenant are named as holders, so that external keys " +
						"are destroyed once every one has reported that it keeps nothing of their version. Default: false.",
				},
			},
			Operations: map[logical.Operation]framework.OperationHandler{
				logical.UpdateOperation: b.On(b.updateDEKConfig, "configure key", "Change the settings of a tenant's key.",
					api.OK("The settings.", map[string]*framework.FieldSchema{
						"min_decryption_version": api.Described(framework.TypeInt, "The least version whose ciphertexts are opened."),
						"follow_holders":         {Type: framework.TypeBool, Description: "Whether external keys go as the holders report: there if they do, or if it was named."},
					})),
			},
			HelpSynopsis: "Settings of a tenant's key.",
			HelpDescription: "min_decryption_version is for what decrypt and rewrap are given; items are not touched by it. " +
				"It may be lowered again. It rises by itself with the " +
				"external keys that go as the holders report.",
		},
		{
			Pattern: api.TenantPattern + "/dek/versions/(?P<version>[^/]+)/destroy$",
			Fields: map[string]*framework.FieldSchema{
				"tenant_id": api.TenantIDField,
				"version":   {Type: framework.TypeString, Description: "The version's number."},
				"force": {
					Type:        framework.TypeBool,
					Description: "Destroy the version though pages or ciphertexts depend on it: they can never be opened again.",
				},
			},
			Operations: map[logical.Operation]framework.OperationHandler{
				logical.UpdateOperation: b.On(b.destroyVersion, "destroy key-version", "Destroy one version of a tenant's key.", api.OK("The version.", versionAnswer)),
			},
			HelpSynopsis: "Destroy one version of a tenant's key.",
			HelpDescription: "Any deactivated version, not only the oldest. Refused while pages of items are on it, or " +
				"something has left the engine under it; force=true destroys it all the same. The active version, and both " +
				"versions of an unfinished rotation, are never destroyed.",
		},
	}
}

// updateDEKConfig changes what the request names, and nothing if it names
// nothing.
func (b *backend) updateDEKConfig(ctx context.Context, _ *logical.Request, d *framework.FieldData) (*logical.Response, error) {
	id, err := api.TenantID(d)
	if err != nil {
		return nil, err
	}
	least, named, err := api.IntField(d, "min_decryption_version")
	if err != nil {
		return nil, err
	}
	if named && least < 1 {
		return nil, api.Invalid("min_decryption_version must be at least 1")
	}
	follow, followNamed, err := api.BoolField(d, "follow_holders")
	if err != nil {
		return nil, err
	}
	t, err := b.tenants.Active(ctx, id)
	if err == nil && named {
		t, err = b.destruction.SetMinDecryptionVersion(ctx, id, least)
	}
	if err == nil && followNamed {
		t, err = b.holders.Follow(ctx, id, follow)
	}
	if err != nil {
		return nil, err
	}
	answer := map[string]any{"min_decryption_version": t.LeastDecryptable()}
	if followNamed || t.FollowHolders {
		answer["follow_holders"] = t.FollowHolders
	}
	return &logical.Response{Data: answer}, nil
}

func (b *backend) destroyVersion(ctx context.Context, req *logical.Request, d *framework.FieldData) (*logical.Response, error) {
	id, err := api.TenantID(d)
	if err != nil {
		return nil, err
	}
	text, _ := d.Get("version").(string)
	number, err := keyring.ParseVersion(text)
	if err != nil {
		return nil, err
	}
	force, _, err := api.BoolField(d, "force")
	if err != nil {
		return nil, err
	}
	v, did, err := b.destruction.DestroyVersion(ctx, id, number, force)
	if errors.Is(err, keyring.ErrNoVersion) {
		return nil, api.Refuse(http.StatusNotFound, "key version not found")
	}
	if err != nil {
		return nil, err
	}
	if did {
		b.Logger().Info("key version destroyed", "tenant_id", id, "version", number, "force", force, "request_id", req.ID)
	}
	return b.versionResponse(ctx, id, v)
}

// versionResponse describes a destroyed version, and what is still on it if it
// was destroyed by force.
func (b *backend) versionResponse(ctx context.Context, id string, v keyring.Version) (*logical.Response, error) {
	t, usage, err := b.items.UsageOf(ctx, id)
	if err != nil {
		return nil, err
	}
	lastUse, err := b.encryption.LastUse(ctx, t)
	resp := &logical.Response{Data: versionValue(&v, usage, nil, lastUse)}
	warnOfLastUse(resp, err)
	return resp, nil
}

// versionValue is a version as answers have it.
func versionValue(v *keyring.Version, usage itemstore.Usage, external map[string]bool, lastUse map[string]tenant.Day) map[string]any {
	value := map[string]any{
		"version":                   v.Number,
		"key_id":                    v.KeyID,
		"key_type":                  string(v.KeyType),
		"state":                     string(v.State),
		"created_at":                api.Time(v.CreatedAt),
		"activated_at":              api.Time(v.ActivatedAt),
		"deactivated_at":            api.Time(v.DeactivatedAt),
		"destroyed_at":              api.Time(v.DestroyedAt),
		"page_key_destroyed_at":     api.Time(v.PageKeyGone()),
		"external_key_destroyed_at": api.Time(v.ExternalKeyDestroyedAt),
		"last_external_use":         dayOrNull(lastUse[v.KeyID]),
		"external_use":              external[v.KeyID],
		"pages":                     usage.Pages(v.Number),
		"rotation_id":               v.RotationID,
	}
	if external[v.KeyID] && !v.Gone.DestroyAfter.IsZero() {
		value["external_key_destroy_after"] = api.Time(v.Gone.DestroyAfter)
	}
	if v.Fingerprint != "" {
		value["imported"] = true
	}
	return value
}

// dayOrNull is a day as answers have it, null for none.
func dayOrNull(d tenant.Day) any {
	if d == "" {
		return nil
	}
	return string(d)
}
