// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package backend

import (
	"context"

	"github.com/hashicorp/vault/sdk/framework"
	"github.com/hashicorp/vault/sdk/logical"

	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/api"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/keyring"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/tenant"
)

func (b *backend) dekPaths() []*framework.Path {
	answer := api.OK("The key's versions.", map[string]*framework.FieldSchema{
		"current_version":        api.Described(framework.TypeInt, "The active version."),
		"current_key_id":         api.Described(framework.TypeString, "Its key ID."),
		"min_decryption_version": api.Described(framework.TypeInt, "The least version whose ciphertexts are opened."),
		"follow_holders":         {Type: framework.TypeBool, Description: "True if external keys go as the holders report; else missing."},
		"versions":               api.Described(framework.TypeSlice, "The versions, oldest first, with their states, times, how many pages are on each, and for aes256-gcm how much each has sealed at most."),
	})
	return []*framework.Path{{
		Pattern: api.TenantPattern + "/dek$",
		Fields:  map[string]*framework.FieldSchema{"tenant_id": api.TenantIDField},
		Operations: map[logical.Operation]framework.OperationHandler{
			logical.ReadOperation: b.On(b.readDEK, "read key", "Read the versions of a tenant's key.", answer),
		},
		HelpSynopsis: "A tenant's data-encryption key: its versions.",
		HelpDescription: "Exactly one version is active. A deactivated one still opens what is on it; " +
			"of a destroyed one the key is gone. pages says how many pages of items are on a version. " +
			"For aes256-gcm, whose keys may seal seal_limit messages each, page_seals and external_seals say how many " +
			"the page key and the external key have sealed at most; at half of the limit the schedule rotates the key.",
	}}
}

func (b *backend) readDEK(ctx context.Context, _ *logical.Request, d *framework.FieldData) (*logical.Response, error) {
	id, err := api.TenantID(d)
	if err != nil {
		return nil, err
	}
	t, usage, err := b.items.UsageOf(ctx, id)
	if err != nil {
		return nil, err
	}
	external, err := b.keys.ExternalUse(ctx, t.Owner())
	if err != nil {
		return nil, err
	}
	lastUse, useErr := b.encryption.LastUse(ctx, t)
	versions := make([]map[string]any, 0, len(t.Keys.Versions))
	for i := range t.Keys.Versions {
		v := &t.Keys.Versions[i]
		value := versionValue(v, usage, external, lastUse)
		if err := b.addSeals(ctx, t, v, external[v.KeyID], value); err != nil {
			return nil, err
		}
		versions = append(versions, value)
	}
	active := t.Keys.Active()
	resp := &logical.Response{Data: map[string]any{
		"current_version":        active.Number,
		"current_key_id":         active.KeyID,
		"min_decryption_version": t.LeastDecryptable(),
		"versions":               versions,
	}}
	if t.FollowHolders {
		resp.Data["follow_holders"] = true
	}
	warnOfLastUse(resp, useErr)
	return resp, nil
}

// warnOfLastUse says that last_external_use may be missing: an entry that describes, and
// decides nothing, must not keep the rest from being shown.
func warnOfLastUse(resp *logical.Response, err error) {
	if err != nil {
		resp.AddWarning("last_external_use may be missing or too early: what is stored of it cannot be read")
	}
}

// addSeals adds how much a version has sealed, if its type has a limit.
func (b *backend) addSeals(ctx context.Context, t *tenant.Record, v *keyring.Version, external bool, value map[string]any) error {
	if v.KeyType != keyring.AES256GCM || v.State == keyring.Destroyed {
		return nil
	}
	sealed, err := b.keys.Seals(ctx, t.Owner(), v, external)
	if err != nil {
		return err
	}
	value["page_seals"], value["external_seals"], value["seal_limit"] = sealed.Page, sealed.External, b.keys.SealLimit()
	return nil
}
