// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package backend

import (
	"slices"
	"strings"

	"github.com/hashicorp/vault/sdk/framework"

	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/api"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/keyring"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/settings"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/tenant"
)

// tenantChange has the fields that a write of a tenant names.
type tenantChange struct {
	displayName, interval *string
	provider              string
	providerNamed         bool
	keyType               keyring.KeyType // empty: not named
	paused                *bool
	mustExist             bool
}

func parseTenantChange(d *framework.FieldData) (c tenantChange, err error) {
	name, named, err := api.TextField(d, "display_name")
	if err != nil {
		return tenantChange{}, err
	}
	if named {
		c.displayName = &name
	}
	if c.interval, err = intervalField(d); err != nil {
		return tenantChange{}, err
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
	if c.provider, c.providerNamed, err = api.TextField(d, "key_provider"); err != nil {
		return tenantChange{}, err
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

// intervalField returns the tenant's interval in the spelling in which it is kept, nil
// if the request does not name it. Empty is the organization's.
func intervalField(d *framework.FieldData) (*string, error) {
	raw, named := d.Raw["rotation_interval"]
	if !named || raw == nil {
		return nil, nil
	}
	if text, isText := raw.(string); isText && (text == "" || slices.Contains(settings.RotationIntervals, text)) {
		return &text, nil
	}
	length, err := durationOf("rotation_interval", raw, settings.MaxInterval)
	if err != nil || length < settings.MinInterval {
		return nil, api.Invalid("rotation_interval must be empty, one of %s, or a duration of whole seconds from 1h to 3650d, such as 30d",
			strings.Join(settings.RotationIntervals, ", "))
	}
	text := settings.FormatInterval(length)
	return &text, nil
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
