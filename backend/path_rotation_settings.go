// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package backend

import (
	"context"
	"slices"
	"strings"

	"github.com/hashicorp/vault/sdk/framework"
	"github.com/hashicorp/vault/sdk/logical"

	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/api"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/settings"
)

func checkInterval(s string) error {
	if !slices.Contains(settings.RotationIntervals, s) {
		return api.Invalid("rotation_interval must be one of %s", strings.Join(settings.RotationIntervals, ", "))
	}
	return nil
}

func (b *backend) rotationSettingsPaths() []*framework.Path {
	answer := api.OK("The settings.", map[string]*framework.FieldSchema{
		"org_id":                   api.Described(framework.TypeString, "The organization's ID."),
		"valid_rotation_intervals": api.Described(framework.TypeStringSlice, "What rotation_interval may be."),
		"rotation_interval":        api.Described(framework.TypeString, "How old a tenant's key may get."),
	})
	return []*framework.Path{{
		Pattern: "key/rotationSettings$",
		Fields: map[string]*framework.FieldSchema{
			"rotation_interval": {
				Type:        framework.TypeString,
				Description: "How old a tenant's key may get: 90_DAYS, 120_DAYS, 180_DAYS or 365_DAYS. Default: 365_DAYS.",
			},
		},
		Operations: map[logical.Operation]framework.OperationHandler{
			logical.ReadOperation:   b.On(b.readRotationSettings, "read rotation-settings", "Read the rotation settings.", answer),
			logical.UpdateOperation: b.On(b.updateRotationSettings, "write rotation-settings", "Change the rotation interval.", answer),
			logical.PatchOperation:  b.On(b.updateRotationSettings, "patch rotation-settings", "Change the rotation interval.", answer),
		},
		HelpSynopsis:    "The organization's rotation settings.",
		HelpDescription: "The interval holds for every tenant of this mount that has none of its own.",
	}}
}

func (b *backend) readRotationSettings(ctx context.Context, _ *logical.Request, _ *framework.FieldData) (*logical.Response, error) {
	s, err := b.settings.StoredRotation(ctx)
	if err != nil {
		return nil, err
	}
	return b.settingsResponse(ctx, s)
}

func (b *backend) updateRotationSettings(ctx context.Context, _ *logical.Request, d *framework.FieldData) (*logical.Response, error) {
	interval, _ := d.Raw["rotation_interval"].(string) // anything else is as invalid as ""
	if err := checkInterval(interval); err != nil {
		return nil, err
	}
	s, err := b.settings.UpdateRotation(ctx, func(s *settings.Rotation) error {
		s.RotationInterval = interval
		return nil
	})
	if err != nil {
		return nil, err
	}
	resp, err := b.settingsResponse(ctx, s)
	if s.Repaired && err == nil {
		resp.AddWarning("the settings could not be read and are written anew: requests for rotations that they held are forgotten")
	}
	return resp, err
}

func (b *backend) settingsResponse(ctx context.Context, s settings.Rotation) (*logical.Response, error) {
	c, err := b.settings.Config(ctx)
	if err != nil {
		return nil, err
	}
	return &logical.Response{Data: map[string]any{
		"org_id":                   c.OrgID,
		"valid_rotation_intervals": settings.RotationIntervals,
		"rotation_interval":        s.RotationInterval,
	}}, nil
}
