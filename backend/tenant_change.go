// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package backend

import (
	"github.com/hashicorp/vault/sdk/framework"

	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/api"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/keyring"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/tenant"
)

// tenantChange has the fields that a write of a tenant names.
type tenantChange struct {
	displayName, interval *string
	keyType               keyring.KeyType // empty: not named
	paused                *bool
	mustExist             bool
}

func parseTenantChange(d *framework.FieldData) (c tenantChange, err error) {
	for field, to := range map[string]**string{
		"display_name": &c.displayName, "rotation_interval": &c.interval,
	} {
		text, named, err := api.TextField(d, field)
		if err != nil {
			return tenantChange{}, err
		}
		if named {
			*to = &text
		}
	}
	if c.interval != nil && *c.interval != "" {
		if err := checkInterval(*c.interval); err != nil {
			return tenantChange{}, err
		}
	}
	keyType, named, err := api.TextField(d, "key_type")
	if err != nil {
		return tenantChange{}, err
	}
	if named {
		if c.keyType, err = keyring.ParseKeyType(keyType); err != nil {
			return tenantChange{}, err
		}
	}
	paused, named, err := api.BoolField(d, "rotation_paused")
	if err != nil {
		return tenantChange{}, err
	}
	if named {
		c.paused = &paused
	}
	if c.mustExist, _, err = api.BoolField(d, "must_exist"); err != nil {
		return tenantChange{}, err
	}
	return c, nil
}

func (c tenantChange) apply(t *tenant.Record) {
	if c.displayName != nil {
		t.DisplayName = *c.displayName
	}
	if c.interval != nil {
		t.RotationInterval = *c.interval
	}
	if c.paused != nil {
		t.RotationPaused = *c.paused
	}
}
