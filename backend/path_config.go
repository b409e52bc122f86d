// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package backend

import (
	"context"

	"github.com/hashicorp/vault/sdk/framework"
	"github.com/hashicorp/vault/sdk/logical"

	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/store"
)

func (b *backend) configPaths() []*framework.Path {
	answer := ok("The configuration.", map[string]*framework.FieldSchema{
		"org_id":               described(framework.TypeString, "The organization's ID."),
		"rotation_parallelism": described(framework.TypeInt, "Pages in flight over all tenants."),
		"max_item_bytes":       described(framework.TypeInt, "Bytes that an encoded item may have."),
	})
	return []*framework.Path{{
		Pattern: "config$",
		Fields: map[string]*framework.FieldSchema{
			"org_id": {
				Type:        framework.TypeString,
				Description: "The organization's ID. Default: the mount's UUID.",
			},
			"rotation_parallelism": {
				Type:        framework.TypeInt,
				Description: "How many pages rotations have in flight, over all tenants: 1 to 32. Holds for running rotations too. Default: 32.",
			},
			"max_item_bytes": {
				Type:        framework.TypeInt,
				Description: "How many bytes an encoded item, data and metadata together, may have: 1 to 393216. Default: 262144.",
			},
		},
		Operations: map[logical.Operation]framework.OperationHandler{
			logical.ReadOperation:   b.on(b.readConfig, "Read the configuration.", answer),
			logical.UpdateOperation: b.on(b.updateConfig, "Change the fields that are named.", answer),
		},
		HelpSynopsis:    "Configure the engine.",
		HelpDescription: "Only the fields that a write names change, and they change at once.",
	}}
}

func (b *backend) readConfig(ctx context.Context, _ *logical.Request, _ *framework.FieldData) (*logical.Response, error) {
	c, err := b.store.Config(ctx)
	if err != nil {
		return nil, err
	}
	return configResponse(c), nil
}

func (b *backend) updateConfig(ctx context.Context, _ *logical.Request, d *framework.FieldData) (*logical.Response, error) {
	c, err := b.store.UpdateConfig(ctx, func(c *store.Config) error {
		orgID, named, err := textField(d, "org_id")
		if err != nil {
			return err
		}
		if named {
			if orgID == "" {
				return invalid("org_id must not be empty")
			}
			c.OrgID = orgID
		}
		if err := boundedField(d, "rotation_parallelism", store.MaxParallelism, &c.RotationParallelism); err != nil {
			return err
		}
		return boundedField(d, "max_item_bytes", store.MaxItemBytes, &c.MaxItemBytes)
	})
	if err != nil {
		return nil, err
	}
	return configResponse(c), nil
}

// boundedField sets n to a field, if the request names it.
func boundedField(d *framework.FieldData, field string, most int, n *int) error {
	value, named, err := intField(d, field)
	if err != nil || !named {
		return err
	}
	if value < 1 || value > most {
		return invalid("%s must be from 1 to %d", field, most)
	}
	*n = value
	return nil
}

func configResponse(c store.Config) *logical.Response {
	return &logical.Response{Data: map[string]any{
		"org_id":               c.OrgID,
		"rotation_parallelism": c.RotationParallelism,
		"max_item_bytes":       c.MaxItemBytes,
	}}
}
