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

	"github.com/vault-plugin-dek/vault-plugin-dek/client"
)

func TestConfig(t *testing.T) {
	e := newEngine(t)
	is := func(check func(c *client.Config)) resource.TestCheckFunc {
		return func(*terraform.State) error {
			c, err := e.Config(t.Context())
			require.NoError(t, err)
			check(c)
			return nil
		}
	}
	update := planned(plancheck.ExpectResourceAction("dek_config.c", plancheck.ResourceActionUpdate))
	config := func(retention string) string {
		return e.config(`resource "dek_config" "c" {
			org_id                = "acme"
			retired_key_retention = %s
			max_item_bytes        = 100000
		}`, retention)
	}
	e.try(
		resource.TestStep{ // what is left out stays as the mount has it
			PreConfig: func() { e.write("config", map[string]any{"manual_rotations_per_hour": 7}) },
			Config:    config(`"30d"`),
			Check: is(func(c *client.Config) {
				require.Equal(t, []any{"acme", 720 * time.Hour, 100000, 7}, []any{c.OrgID, time.Duration(c.RetiredKeyRetention), c.MaxItemBytes, c.ManualRotationsPerHour})
			}),
		},
		resource.TestStep{Config: config(`"720h"`), PlanOnly: true},
		resource.TestStep{Config: config("2592000"), PlanOnly: true},
		resource.TestStep{ // what is named is put right; of what is not, nothing is undone
			PreConfig: func() { e.write("config", map[string]any{"retired_key_retention": "1h", "scheduler_jitter": "2h"}) },
			Config:    config(`"43200m"`), ConfigPlanChecks: update,
			Check: is(func(c *client.Config) {
				require.Equal(t, []time.Duration{720 * time.Hour, 2 * time.Hour}, []time.Duration{time.Duration(c.RetiredKeyRetention), time.Duration(c.SchedulerJitter)})
			}),
		},
		resource.TestStep{
			ResourceName: "dek_config.c", ImportState: true, ImportStateId: e.mount, ImportStateVerify: true,
			ImportStateVerifyIdentifierAttribute: "mount", ImportStateVerifyIgnore: []string{"retired_key_retention"}, // 30d
		},
		resource.TestStep{
			Config: config(`"30d"`), Taint: []string{"dek_config.c"},
			ConfigPlanChecks: planned(plancheck.ExpectResourceAction("dek_config.c", plancheck.ResourceActionReplace)),
			Check:            is(func(c *client.Config) { require.Equal(t, 2*time.Hour, time.Duration(c.SchedulerJitter)) }),
		},
	)
	_ = is(func(c *client.Config) { require.Equal(t, "acme", c.OrgID, "destroyed here, the settings stay") })(nil)
}

// A lower least deletion window is written once, and is no drift while it is to come.
func TestLowerDeletionWindowThatIsToCome(t *testing.T) {
	e := newEngine(t)
	e.write("tenants/"+uuid.NewString(), nil)
	config := func(window string) string {
		return e.config(`resource "dek_config" "c" { min_deletion_window = %q }`, window)
	}
	e.try(
		resource.TestStep{Config: config("1h"), Check: resource.ComposeAggregateTestCheckFunc(
			resource.TestCheckResourceAttr("dek_config.c", "min_deletion_window", "1h"),
			resource.TestCheckResourceAttr("dek_config.c", "min_deletion_window_in_force", "1d"),
		)},
		resource.TestStep{Config: config("3600"), PlanOnly: true},
		resource.TestStep{Config: config("2d"), Check: resource.TestCheckResourceAttr("dek_config.c", "min_deletion_window_in_force", "2d")},
	)
}
