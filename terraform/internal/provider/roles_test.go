// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

//go:build acceptance

package provider

import (
	"regexp"
	"testing"

	"github.com/google/uuid"
	"github.com/hashicorp/terraform-plugin-testing/helper/resource"
	"github.com/stretchr/testify/require"

	"github.com/vault-plugin-dek/vault-plugin-dek/internal/devstack"
)

// login is a Vault token of a user with these roles.
func (e *engine) login(tenant string, roles ...string) string {
	e.t.Helper()
	jwt, err := shared.MintJWT(devstack.Claims{Subject: uuid.NewString(), TenantID: tenant, Roles: roles})
	require.NoError(e.t, err)
	token, err := shared.Login(e.t.Context(), jwt)
	require.NoError(e.t, err)
	return token
}

// The roles that docs/terraform.md names suffice, and destruction is not among those of
// who creates.
func TestRoles(t *testing.T) {
	e := newEngine(t)
	e.mount = devstack.Mount // where the roles are for
	o := e.newOwner()
	id := uuid.NewString()
	tenant := func(token, name string) string {
		return e.as(token, `resource "dek_tenant" "t" {
			tenant_id    = %q
			display_name = %q
		}
		data "dek_rotation" "latest" { tenant_id = dek_tenant.t.tenant_id }`, id, name)
	}
	super, destroyer := e.login("", "super_admin"), e.login("", "super_admin", "key_destroyer")
	refused := regexp.MustCompile(`(?s)was not deleted.*403.*which\s+role\s+may\s+do\s+what`)
	e.try(
		resource.TestStep{Config: tenant(super, "first")},
		resource.TestStep{Config: tenant(super, "second")},
		resource.TestStep{Config: tenant(super, "second"), Destroy: true, ExpectError: refused},
		resource.TestStep{Config: tenant(destroyer, "second"), Destroy: true},
	)
	id = uuid.NewString()
	e.write("tenants/"+id, nil)
	e.try(resource.TestStep{Config: e.as(e.login("", "auditor"), `data "dek_rotation" "latest" { tenant_id = %q }
		data "dek_status" "s" {}`, id)})
	holder := func(token string) string {
		return e.as(token, `resource "dek_holder" "h" {
			tenant_id = %q
			name      = "orders"
		}`, id)
	}
	security := e.login(id, "security_admin")
	e.try(
		resource.TestStep{Config: holder(security)},
		resource.TestStep{Config: holder(security), Destroy: true, ExpectError: refused},
		resource.TestStep{Config: holder(shared.RootToken()), Destroy: true},
	)
	const organization = `resource "dek_rotation_settings" "s" { rotation_interval = "365d" }
		data "dek_status" "s" {}`
	e.try(
		resource.TestStep{Config: e.as(e.login("", "key_admin"), organization)},
		resource.TestStep{Config: e.as(super, organization)},
	)
	e.try(resource.TestStep{Config: e.as(e.login("", "key_destroyer"), `resource "dek_config" "c" { max_item_bytes = 262144 }`)})
	e.try(resource.TestStep{Config: e.as(e.login("", "kek_admin"), "%s", providerOf(o, "terraform-owner", o.token, "1", `"1m"`))})
}
