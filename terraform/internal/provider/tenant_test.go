// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

//go:build acceptance

package provider

import (
	"regexp"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/hashicorp/terraform-plugin-testing/helper/resource"
	"github.com/hashicorp/terraform-plugin-testing/plancheck"
	"github.com/hashicorp/terraform-plugin-testing/terraform"
	"github.com/stretchr/testify/require"
)

// planned checks what a step plans, before it applies that.
func planned(checks ...plancheck.PlanCheck) resource.ConfigPlanChecks {
	return resource.ConfigPlanChecks{PreApply: checks}
}

func action(what plancheck.ResourceActionType) plancheck.PlanCheck {
	return plancheck.ExpectResourceAction("dek_tenant.t", what)
}

func TestTenant(t *testing.T) {
	e := newEngine(t)
	id, other := uuid.NewString(), uuid.NewString()
	whole := `resource "dek_tenant" "t" {
		tenant_id         = %q
		display_name      = "Ünïcode, Inc."
		rotation_interval = %s
	}`
	e.try(
		resource.TestStep{ // created; a plan after each step is empty
			Config: e.config(whole, id, `"2160h"`),
			Check: func(*terraform.State) error {
				info := e.tenant(id)
				require.Equal(t, []any{"Ünïcode, Inc.", "90d", false, "xaes256-gcm"}, []any{info.DisplayName, info.RotationInterval, info.RotationPaused, info.KeyType})
				return nil
			},
		},
		// Other spellings of the same length are no change.
		resource.TestStep{Config: e.config(whole, id, `"90d"`), PlanOnly: true},
		resource.TestStep{Config: e.config(whole, id, `7776000`), PlanOnly: true},
		resource.TestStep{Config: e.config(whole, id, `"90_DAYS"`), PlanOnly: true},
		resource.TestStep{ // what an operator changed past the configuration is put right
			PreConfig: func() { e.write("tenants/"+id, map[string]any{"rotation_paused": true, "rotation_interval": "36h"}) },
			Config:    e.config(whole, id, `"2160h"`), ConfigPlanChecks: planned(action(plancheck.ResourceActionUpdate)),
			Check: func(*terraform.State) error {
				require.Equal(t, []any{"90d", false}, []any{e.tenant(id).RotationInterval, e.tenant(id).RotationPaused})
				return nil
			},
		},
		resource.TestStep{ // imported, and nothing is left to do
			ResourceName: "dek_tenant.t", ImportState: true, ImportStateId: id, ImportStateVerify: true,
			ImportStateVerifyIdentifierAttribute: "tenant_id", ImportStateVerifyIgnore: []string{"rotation_interval"}, // 90d
		},
		resource.TestStep{ // an attribute that is left out goes back to its default
			Config: e.config(`resource "dek_tenant" "t" { tenant_id = %q }`, id),
			Check: func(*terraform.State) error {
				require.Equal(t, []any{"", ""}, []any{e.tenant(id).RotationInterval, e.tenant(id).DisplayName})
				return nil
			},
		},
		resource.TestStep{ // another ID is another tenant
			Config:           e.config(`resource "dek_tenant" "t" { tenant_id = %q }`, other),
			ConfigPlanChecks: planned(action(plancheck.ResourceActionReplace)),
			Check: func(*terraform.State) error {
				require.Equal(t, []any{"deleting", "active"}, []any{e.tenant(id).State, e.tenant(other).State})
				return nil
			},
		},
	)
	info := e.tenant(other)
	require.Equal(t, "deleting", info.State, "destroyed at the end")
	require.WithinDuration(t, time.Now().Add(7*24*time.Hour), *info.DeleteAfter, time.Hour, "the engine's window")
}

// A destroy keeps to min_deletion_window, says so, and what waits for its end can be restored.
func TestTenantIsNotDestroyedSoonerThanTheMountAllows(t *testing.T) {
	e := newEngine(t)
	id := uuid.NewString()
	config := func(window string) string {
		return e.config(`resource "dek_tenant" "t" {
			tenant_id       = %q
			deletion_window = %q
		}`, id, window)
	}
	e.try(
		resource.TestStep{Config: config("1h")},
		resource.TestStep{ // the plan is refused already
			Config: config("1h"), Destroy: true, ExpectError: regexp.MustCompile(`(?s)deletion_window is 1h.*min_deletion_window.*1d`),
		},
		resource.TestStep{Config: config("48h"), Check: func(*terraform.State) error {
			require.Equal(t, "active", e.tenant(id).State, "nothing was deleted")
			return nil
		}},
		resource.TestStep{Config: config("172800"), PlanOnly: true},
		resource.TestStep{ // deleted past the configuration, it is not managed any more
			PreConfig: func() {
				_, err := e.vault.Logical().DeleteWithContext(t.Context(), e.mount+"/tenants/"+id)
				require.NoError(t, err)
			},
			Config: config("48h"), PlanOnly: true, ExpectNonEmptyPlan: true,
		},
		resource.TestStep{
			PreConfig: func() { e.write("tenants/"+id+"/restore", nil) },
			Config:    config("48h"), PlanOnly: true,
		},
		resource.TestStep{Config: config("48h"), Destroy: true},
		resource.TestStep{ // the ID is not free yet
			Config: config("48h"), ExpectError: regexp.MustCompile(`(?s)can be restored until.*restore`),
		},
		resource.TestStep{ // restored and imported, it is managed again
			PreConfig:    func() { e.write("tenants/"+id+"/restore", nil) },
			Config:       config("48h"),
			ResourceName: "dek_tenant.t", ImportState: true, ImportStateId: id, ImportStatePersist: true,
		},
		resource.TestStep{Config: config("48h"), ConfigPlanChecks: planned(action(plancheck.ResourceActionUpdate))},
	)
	info := e.tenant(id)
	require.Equal(t, "deleting", info.State)
	require.WithinDuration(t, time.Now().Add(48*time.Hour), *info.DeleteAfter, time.Hour)
}

// Where the mount has no least window, a tenant may be shredded at once, and its ID is free.
func TestTenantIsShreddedAtOnceWhereTheMountAllowsIt(t *testing.T) {
	e := newEngine(t)
	e.write("config", map[string]any{"min_deletion_window": 0})
	id := uuid.NewString()
	config := e.config(`resource "dek_tenant" "t" {
		tenant_id       = %q
		deletion_window = 0
	}`, id)
	var was string
	e.try(
		resource.TestStep{Config: config, Check: func(*terraform.State) error {
			was = e.tenant(id).CurrentKeyID
			return nil
		}},
		resource.TestStep{
			Config: config, Taint: []string{"dek_tenant.t"}, ConfigPlanChecks: planned(action(plancheck.ResourceActionReplace)),
			Check: func(*terraform.State) error {
				require.NotEqual(t, was, e.tenant(id).CurrentKeyID, "it is another tenant, with another key")
				return nil
			},
		},
	)
	require.True(t, e.absent("tenants/"+id))
}

func TestTenantThatIsThereAlreadyIsNotTakenOver(t *testing.T) {
	e := newEngine(t)
	id := uuid.NewString()
	e.write("tenants/"+id, map[string]any{"display_name": "somebody's"})
	e.try(resource.TestStep{
		Config:      e.config(`resource "dek_tenant" "t" { tenant_id = %q }`, id),
		ExpectError: regexp.MustCompile(`import it`),
	})
	require.Equal(t, "somebody's", e.tenant(id).DisplayName)
}

// A change of the key's type is a rotation, and of its provider a move: never a replacement.
func TestKeyTypeChangesByARotation(t *testing.T) {
	e := newEngine(t)
	id := uuid.NewString()
	config := func(keyType string) string {
		return e.config(`resource "dek_tenant" "t" {
			tenant_id = %q
			key_type  = %q
		}`, id, keyType)
	}
	e.try(
		resource.TestStep{Config: config("aes256-gcm")},
		resource.TestStep{
			PreConfig: func() {
				e.write("tenants/"+id+"/credentials/db", map[string]any{"data": map[string]any{"password": "x"}})
			},
			Config: config("xaes256-gcm"), ConfigPlanChecks: planned(action(plancheck.ResourceActionUpdate)),
			Check: func(*terraform.State) error {
				require.Equal(t, []any{"xaes256-gcm", 1}, []any{e.tenant(id).KeyType, e.tenant(id).ItemCounts["credentials"]})
				return nil
			},
		},
	)
}
