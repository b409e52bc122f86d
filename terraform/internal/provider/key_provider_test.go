// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

//go:build acceptance

package provider

import (
	"encoding/json"
	"fmt"
	"regexp"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/hashicorp/terraform-plugin-testing/helper/resource"
	"github.com/hashicorp/terraform-plugin-testing/plancheck"
	"github.com/hashicorp/terraform-plugin-testing/terraform"
	"github.com/hashicorp/vault/api"
	"github.com/stretchr/testify/require"
)

// owner has a key in a transit engine, and lends it.
type owner struct {
	mount string
	token string // may use the key
	other string // may, too: what the first is replaced by
}

func (e *engine) newOwner() owner {
	e.t.Helper()
	o := owner{mount: "owner-" + uuid.NewString()[:8]}
	require.NoError(e.t, e.vault.Sys().Mount(o.mount, &api.MountInput{Type: "transit"}))
	e.t.Cleanup(func() { require.NoError(e.t, e.vault.Sys().Unmount(o.mount)) })
	_, err := e.vault.Logical().Write(o.mount+"/keys/dek", nil)
	require.NoError(e.t, err)
	require.NoError(e.t, e.vault.Sys().PutPolicy(o.mount, `path "`+o.mount+`/+/dek" { capabilities = ["update"] }`))
	for _, token := range []*string{&o.token, &o.other} {
		secret, err := e.vault.Auth().Token().CreateOrphan(&api.TokenCreateRequest{Policies: []string{o.mount}, Period: "1h"})
		require.NoError(e.t, err)
		*token = secret.Auth.ClientToken
	}
	return o
}

// provider is a configuration of the key provider.
func (e *engine) provider(o owner, name, token, version, lease string) string {
	return e.config("%s", providerOf(o, name, token, version, lease))
}

func providerOf(o owner, name, token, version, lease string) string {
	return fmt.Sprintf(`resource "dek_key_provider" "p" {
		name                  = %q
		type                  = "transit"
		parameters            = { address = %q, key_name = "dek", mount_path = %q }
		parameters_wo         = { token = %q }
		parameters_wo_version = %q
		lease                 = %s
		timeout               = "1m"
		tenants               = ["*"]
	}`, name, shared.VaultAddr(), o.mount, token, version, lease)
}

// noSecret checks that a state holds no credential. The plans that the test library reads
// are checked by the same rule when they are written: a write-only value is null there.
func noSecret(t *testing.T, o owner) resource.TestCheckFunc {
	return func(s *terraform.State) error {
		all, err := json.Marshal(s)
		require.NoError(t, err)
		require.Contains(t, string(all), o.mount, "it is the state that has the rest")
		require.NotContains(t, string(all), o.token)
		require.NotContains(t, string(all), o.other)
		return nil
	}
}

func TestKeyProvider(t *testing.T) {
	e := newEngine(t)
	o := e.newOwner()
	does := func(what plancheck.ResourceActionType) resource.ConfigPlanChecks {
		return planned(plancheck.ExpectResourceAction("dek_key_provider.p", what))
	}
	lease := func(name string, want int) resource.TestCheckFunc {
		return resource.ComposeTestCheckFunc(noSecret(t, o), func(*terraform.State) error {
			p, err := e.Provider(t.Context(), name)
			require.NoError(t, err)
			require.Equal(t, []any{want, "<configured>", "ok"}, []any{int(time.Duration(p.Lease) / time.Second), p.Parameters["token"], p.State})
			return nil
		})
	}
	e.try(
		resource.TestStep{Config: e.provider(o, "owner", o.token, "1", `"60s"`), Check: lease("owner", 60)},
		resource.TestStep{Config: e.provider(o, "owner", o.token, "1", `"1m"`), PlanOnly: true},
		resource.TestStep{Config: e.provider(o, "owner", o.token, "1", "60"), PlanOnly: true},
		resource.TestStep{ // another credential is seen by its version alone
			Config: e.provider(o, "owner", o.other, "1", `"1m"`), PlanOnly: true,
		},
		resource.TestStep{
			Config: e.provider(o, "owner", o.other, "2", `"1m"`), ConfigPlanChecks: does(plancheck.ResourceActionUpdate),
			Check: resource.ComposeTestCheckFunc(lease("owner", 60), func(*terraform.State) error {
				// The former one may go: the engine has the other.
				require.NoError(t, e.vault.Auth().Token().RevokeTree(o.token))
				p, err := e.CheckProvider(t.Context(), "owner")
				require.NoError(t, err)
				require.Equal(t, "ok", p.State, p.LastError)
				return nil
			}),
		},
		resource.TestStep{ // one that does not work is refused with the owner's word
			Config: e.provider(o, "owner", o.token, "3", `"1m"`), ExpectError: regexp.MustCompile(`(?s)was not written.*nothing\s+has\s+changed.*permission\s+denied`),
		},
		resource.TestStep{
			PreConfig: func() { e.write("providers/owner", map[string]any{"lease": "2m", "tenants": ""}) },
			Config:    e.provider(o, "owner", o.other, "2", `"1m"`), ConfigPlanChecks: does(plancheck.ResourceActionUpdate), Check: lease("owner", 60),
		},
		resource.TestStep{
			ResourceName: "dek_key_provider.p", ImportState: true, ImportStateId: "owner", ImportStateVerify: true,
			ImportStateVerifyIdentifierAttribute: "name", ImportStateVerifyIgnore: []string{"parameters_wo_version"},
		},
		resource.TestStep{Config: e.provider(o, "owner-2", o.other, "2", `"1m"`), ConfigPlanChecks: does(plancheck.ResourceActionReplace), Check: lease("owner-2", 60)},
	)
	require.True(t, e.absent("providers/owner"))
	require.True(t, e.absent("providers/owner-2"), "destroyed at the end")
}

// A tenant is made under a key provider, leaves it and comes back, in place.
func TestTenantMovesBetweenKeyProviders(t *testing.T) {
	e := newEngine(t)
	o := e.newOwner()
	id := uuid.NewString()
	e.write("config", map[string]any{"min_deletion_window": 0}) // at once: there is no tenant
	provider := e.provider(o, "owner", o.token, "1", `"60s"`)
	under := func(want string) resource.TestCheckFunc {
		return func(*terraform.State) error {
			require.Equal(t, want, e.tenant(id).KeyProvider)
			return nil
		}
	}
	tenant := func(name string) string {
		return `
		resource "dek_tenant" "t" {
			tenant_id    = "` + id + `"
			key_provider = ` + name + `
		}`
	}
	update := planned(action(plancheck.ResourceActionUpdate))
	e.try(
		resource.TestStep{Config: provider + tenant("dek_key_provider.p.name"), Check: under("owner")},
		resource.TestStep{Config: provider + tenant(`""`), Check: under(""), ConfigPlanChecks: update},
		resource.TestStep{Config: provider + tenant("dek_key_provider.p.name"), Check: under("owner"), ConfigPlanChecks: update},
		resource.TestStep{ // a provider in use stays
			Config: e.config("") + tenant(`"owner"`), ExpectError: regexp.MustCompile(`(?s)was not deleted.*409`),
		},
		resource.TestStep{ // so does one whose tenant can be restored
			Config: provider + tenant("dek_key_provider.p.name"), Destroy: true, ExpectError: regexp.MustCompile(`(?s)was not deleted.*409`),
		},
		resource.TestStep{PreConfig: func() {
			_, err := e.vault.Logical().DeleteWithData(e.mount+"/tenants/"+id, map[string][]string{"deletion_window": {"0"}})
			require.NoError(t, err)
		}, Config: provider},
	)
	require.True(t, e.absent("providers/owner"), "destroyed once the tenant was shredded")
}
