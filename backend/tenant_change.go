// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package backend

import (
	"github.com/hashicorp/vault/sdk/framework"

	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/keyring"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/tenant"
)

// tenantChange is what a write of a tenant names.
type tenantChange struct {
	displayName, interval, keyType *string
	paused                         *bool
}

func parseTenantChange(d *framework.FieldData) (c tenantChange, err error) {
	for field, to := range map[string]**string{
		"display_name": &c.displayName, "rotation_interval": &c.interval, "key_type": &c.keyType,
	} {
		text, named, err := textField(d, field)
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
	if c.keyType != nil {
		t, err := keyring.ParseKeyType(*c.keyType)
		if err != nil {
			return tenantChange{}, err
		}
		name := string(t)
		c.keyType = &name
	}
	paused, named, err := boolField(d, "rotation_paused")
	if err != nil {
		return tenantChange{}, err
	}
	if named {
		c.paused = &paused
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
