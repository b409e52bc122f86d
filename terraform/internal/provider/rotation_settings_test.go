// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

//go:build acceptance

package provider

import (
	"testing"

	"github.com/hashicorp/terraform-plugin-testing/helper/resource"
	"github.com/hashicorp/terraform-plugin-testing/plancheck"
	"github.com/hashicorp/terraform-plugin-testing/terraform"
	"github.com/stretchr/testify/require"
)

func TestRotationSettings(t *testing.T) {
	e := newEngine(t)
	is := func(want string) resource.TestCheckFunc {
		return func(*terraform.State) error {
			s, err := e.RotationSettings(t.Context())
			require.NoError(t, err)
			require.Equal(t, want, s.RotationInterval)
			return nil
		}
	}
	config := func(interval string) string {
		return e.config(`resource "dek_rotation_settings" "s" { rotation_interval = %s }`, interval)
	}
	e.try(
		resource.TestStep{Config: config(`"90d"`), Check: is("90_DAYS")},
		resource.TestStep{Config: config(`"90_DAYS"`), PlanOnly: true},
		resource.TestStep{Config: config(`7776000`), PlanOnly: true},
		resource.TestStep{
			PreConfig: func() { e.write("key/rotationSettings", map[string]any{"rotation_interval": "365_DAYS"}) },
			Config:    config(`"2160h"`), Check: is("90_DAYS"),
			ConfigPlanChecks: planned(plancheck.ExpectResourceAction("dek_rotation_settings.s", plancheck.ResourceActionUpdate)),
		},
		resource.TestStep{
			ResourceName: "dek_rotation_settings.s", ImportState: true, ImportStateId: e.mount, ImportStateVerify: true,
			ImportStateVerifyIdentifierAttribute: "mount", ImportStateVerifyIgnore: []string{"rotation_interval"},
		},
		resource.TestStep{Config: config(`"180_DAYS"`), Check: is("180_DAYS")},
		resource.TestStep{Config: config(`"180_DAYS"`), Taint: []string{"dek_rotation_settings.s"}, Check: is("180_DAYS")},
	)
	require.NoError(t, is("180_DAYS")(nil), "destroyed here, the settings stay")
}
