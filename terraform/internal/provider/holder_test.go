// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

//go:build acceptance

package provider

import (
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/hashicorp/terraform-plugin-testing/helper/resource"
	"github.com/hashicorp/terraform-plugin-testing/plancheck"
	"github.com/hashicorp/terraform-plugin-testing/terraform"
	"github.com/stretchr/testify/require"
)

func TestHolder(t *testing.T) {
	e := newEngine(t)
	id := uuid.NewString()
	e.write("tenants/"+id, nil)
	is := func(name string, check func(kept time.Duration, description string)) resource.TestCheckFunc {
		return func(*terraform.State) error {
			tenant, err := e.Tenant(id)
			require.NoError(t, err)
			h, err := tenant.Holder(t.Context(), name)
			require.NoError(t, err)
			check(time.Duration(h.BackupsKept), h.Description)
			return nil
		}
	}
	does := func(what plancheck.ResourceActionType) resource.ConfigPlanChecks {
		return planned(plancheck.ExpectResourceAction("dek_holder.h", what))
	}
	config := func(name, kept string) string {
		return e.config(`resource "dek_holder" "h" {
			tenant_id    = %q
			name         = %q
			description  = "orders in PostgreSQL"
			backups_kept = %s
		}`, id, name, kept)
	}
	month := func(kept time.Duration, description string) {
		require.Equal(t, []any{720 * time.Hour, "orders in PostgreSQL"}, []any{kept, description})
	}
	e.try(
		resource.TestStep{Config: config("pg/orders", `"30d"`), Check: is("pg/orders", month)},
		resource.TestStep{Config: config("pg/orders", `"720h"`), PlanOnly: true},
		resource.TestStep{Config: config("pg/orders", "2592000"), PlanOnly: true},
		resource.TestStep{
			PreConfig: func() { e.write("tenants/"+id+"/holders/pg/orders", map[string]any{"backups_kept": "1h"}) },
			Config:    config("pg/orders", `"30d"`), ConfigPlanChecks: does(plancheck.ResourceActionUpdate), Check: is("pg/orders", month),
		},
		resource.TestStep{ // deleted past the configuration, it is named again
			PreConfig: func() {
				_, err := e.vault.Logical().Delete(e.mount + "/tenants/" + id + "/holders/pg/orders")
				require.NoError(t, err)
			},
			Config: config("pg/orders", `"30d"`), ConfigPlanChecks: does(plancheck.ResourceActionCreate), Check: is("pg/orders", month),
		},
		resource.TestStep{
			ResourceName: "dek_holder.h", ImportState: true, ImportStateId: id + "/pg/orders", ImportStateVerify: true,
			ImportStateVerifyIdentifierAttribute: "name",
		},
		resource.TestStep{Config: config("pg/invoices", `"30d"`), ConfigPlanChecks: does(plancheck.ResourceActionReplace), Check: is("pg/invoices", month)},
	)
	require.True(t, e.absent("tenants/"+id+"/holders/pg/orders"))
	require.True(t, e.absent("tenants/"+id+"/holders/pg/invoices"), "destroyed at the end")
}
