// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

//go:build acceptance

package provider

import (
	"encoding/json"
	"os"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/vault-plugin-dek/vault-plugin-dek/client"
)

// The example as it stands is applied, and applied again changes nothing. It is run by the
// command: the library for tests of providers knows no for_each.
func TestOrganizationExample(t *testing.T) {
	e := newEngine(t)
	o := e.newOwner()
	t.Setenv("VAULT_ADDR", shared.VaultAddr())
	t.Setenv("VAULT_TOKEN", shared.RootToken())
	text, err := os.ReadFile("../../examples/organization/main.tf")
	require.NoError(t, err)
	c := newCommandLine(t, string(text))
	first, second := uuid.NewString(), uuid.NewString()
	variables := func(tenants map[string]any) {
		text, err := json.Marshal(map[string]any{
			"mount": e.mount, "tenants": tenants, "owner_token": o.token,
			"owner": map[string]any{"address": shared.VaultAddr(), "mount_path": o.mount, "key_name": "dek"},
		})
		require.NoError(t, err)
		c.write("terraform.tfvars.json", string(text))
	}
	acme := map[string]any{"name": "Acme"}

	variables(map[string]any{first: acme})
	c.run(0, "apply", "-auto-approve")
	require.Equal(t, map[string]any{first: ""}, c.rotations(), "there was none")
	c.run(0, "plan", "-detailed-exitcode")
	require.NotContains(t, c.everything("main.tf", "terraform.tfvars.json"), o.token)

	tenant, err := e.Tenant(first)
	require.NoError(t, err)
	r, err := tenant.Rotate(t.Context(), client.RotationRequest{Reason: "asked"})
	require.NoError(t, err)
	_, err = tenant.WaitRotation(t.Context(), r.ID, 10*time.Millisecond, nil)
	require.NoError(t, err)
	variables(map[string]any{first: acme, second: map[string]any{"name": "Globex", "interval": "720h"}})
	c.run(0, "apply", "-auto-approve")
	require.Equal(t, map[string]any{first: "completed", second: ""}, c.rotations())
	require.Equal(t, "30d", e.tenant(second).RotationInterval)

	c.run(0, "destroy", "-auto-approve")
	require.Equal(t, []string{"deleting", "deleting"}, []string{e.tenant(first).State, e.tenant(second).State})
	require.True(t, e.absent("providers/owner"))
}

// rotations is the output of that name.
func (c *commandLine) rotations() (out map[string]any) {
	c.t.Helper()
	require.NoError(c.t, json.Unmarshal([]byte(c.run(0, "output", "-json", "rotations")), &out))
	return out
}
