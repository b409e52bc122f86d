// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package backend

import (
	"context"

	"github.com/hashicorp/vault/sdk/framework"
	"github.com/hashicorp/vault/sdk/logical"

	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/api"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/keyring"
)

func (b *backend) importPaths() []*framework.Path {
	return []*framework.Path{
		{
			Pattern: "wrapping_key$",
			Operations: map[logical.Operation]framework.OperationHandler{
				logical.ReadOperation: b.On(b.readWrappingKey, "read wrapping-key", "Read the public key under which keys are wrapped for import.",
					api.OK("The public key.", map[string]*framework.FieldSchema{
						"public_key": api.Described(framework.TypeString, "An RSA key of 4096 bits, as PKIX in PEM."),
					})),
			},
			HelpSynopsis: "The public key under which keys are wrapped for import.",
			HelpDescription: "An RSA key of 4096 bits, made at the first read, which takes some seconds, and the same until " +
				"it is rotated. Write what it wraps to tenants/<tenant_id>/dek/import.",
		},
		{
			Pattern: "wrapping_key/rotate$",
			Operations: map[logical.Operation]framework.OperationHandler{
				logical.UpdateOperation: b.On(b.rotateWrappingKey, "rotate wrapping-key", "Make another key under which keys are wrapped for import.",
					api.OK("The new public key.", map[string]*framework.FieldSchema{
						"public_key":   api.Described(framework.TypeString, "An RSA key of 4096 bits, as PKIX in PEM."),
						"former_until": api.Described(framework.TypeTime, "Until when what is wrapped under the key before is taken; null: there was none."),
					})),
			},
			HelpSynopsis: "Make another key under which keys are wrapped for import.",
			HelpDescription: "What was wrapped under the former key is taken for 24 hours more; then that key is destroyed. " +
				"Making a key takes some seconds.",
		},
		{
			Pattern: api.TenantPattern + "/dek/import$",
			Fields: map[string]*framework.FieldSchema{
				"tenant_id": api.TenantIDField,
				"ciphertext": {
					Type: framework.TypeString,
					Description: "Base64 of an AES key of 256 bits, encrypted by RSA-OAEP under wrapping_key, followed by the " +
						"tenant's new key, of 32 bytes, wrapped by AES-KWP under that AES key: as transit's import has it.",
				},
				"hash_function": {
					Type:        framework.TypeString,
					Description: "The hash function of RSA-OAEP: SHA1, SHA224, SHA256 (default), SHA384 or SHA512.",
				},
				"reason":          rotateFields["reason"],
				"key_type":        rotateFields["key_type"],
				"idempotency_key": rotateFields["idempotency_key"],
			},
			Operations: map[logical.Operation]framework.OperationHandler{
				logical.UpdateOperation: b.On(b.importKey, "import key", "Rotate a tenant's key to one that its owner has made.",
					api.OK("The rotation.", rotationAnswer)),
			},
			HelpSynopsis: "Rotate a tenant's key to one that its owner has made.",
			HelpDescription: "The page key of a new version is derived from the imported key: all that holds for dek/rotate holds for " +
				"this rotation. A key that the tenant has had before is refused. Ciphertexts of encrypt and datakey are sealed " +
				"by another key of that version, which is made here.",
		},
	}
}

func (b *backend) readWrappingKey(ctx context.Context, _ *logical.Request, _ *framework.FieldData) (*logical.Response, error) {
	public, err := b.wrapping.Public(ctx)
	if err != nil {
		return nil, err
	}
	return &logical.Response{Data: map[string]any{"public_key": public.PEM}}, nil
}

func (b *backend) rotateWrappingKey(ctx context.Context, req *logical.Request, _ *framework.FieldData) (*logical.Response, error) {
	public, err := b.wrapping.Rotate(ctx, req.ID)
	if err != nil {
		return nil, err
	}
	return &logical.Response{Data: map[string]any{
		"public_key": public.PEM, "former_until": api.Time(public.FormerUntil),
	}}, nil
}

// importKey is rotate to a given key. What can be refused is refused before the
// work that RSA is, and no lock is held during that.
func (b *backend) importKey(ctx context.Context, req *logical.Request, d *framework.FieldData) (*logical.Response, error) {
	id, err := api.TenantID(d)
	if err != nil {
		return nil, err
	}
	want, err := b.rotationRequest(req, d)
	if err != nil {
		return nil, err
	}
	sent, err := importField(d)
	if err != nil {
		return nil, err
	}
	if _, err := b.tenants.Active(ctx, id); err != nil {
		return nil, err
	}
	if want.Material, err = b.wrapping.Unwrap(ctx, sent); err != nil {
		return nil, err
	}
	defer clear(want.Material)
	return b.startRotation(ctx, req, id, want)
}

func importField(d *framework.FieldData) (sent keyring.Import, err error) {
	hashFunction, _, err := api.TextField(d, "hash_function")
	if err != nil {
		return sent, err
	}
	ciphertext, isText := d.Raw["ciphertext"].(string)
	switch {
	case d.Raw["ciphertext"] == nil:
		return sent, api.Invalid("ciphertext is missing")
	case !isText:
		return sent, api.Invalid("ciphertext must be a string")
	}
	return keyring.ParseImport(ciphertext, hashFunction)
}
