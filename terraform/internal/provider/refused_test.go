// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

//go:build acceptance

package provider

import (
	"regexp"
	"strings"
	"testing"

	"github.com/google/uuid"
	"github.com/hashicorp/terraform-plugin-framework/providerserver"
	"github.com/hashicorp/terraform-plugin-go/tfprotov6"
	"github.com/hashicorp/terraform-plugin-testing/helper/resource"
	"github.com/stretchr/testify/require"
)

// What is faulty is refused before anything is planned, with the rule.
func TestFaultyConfigurations(t *testing.T) {
	e := newEngine(t)
	rules := []string{
		"must be a UUID in lower case", "value must be one of", "an interval is empty", "a duration is whole seconds", "from 0 to 720h",
		"An organization's interval is one of", "token is a credential: give it in parameters_wo",
	}
	resource.Test(t, resource.TestCase{
		ProtoV6ProviderFactories: map[string]func() (tfprotov6.ProviderServer, error){"dek": providerserver.NewProtocol6WithError(New())},
		ErrorCheck: func(err error) error {
			said := strings.Join(strings.Fields(strings.ReplaceAll(err.Error(), "│", " ")), " ")
			for _, rule := range rules {
				require.Contains(t, said, rule)
			}
			return nil
		},
		Steps: []resource.TestStep{{Config: e.config(`
			resource "dek_tenant" "a" { tenant_id = "3FA85F64-5717-4562-B3FC-2C963F66AFA6" }
			resource "dek_tenant" "b" {
				tenant_id         = %q
				key_type          = "rot13"
				rotation_interval = "soon"
				deletion_window   = "1.5s"
			}
			resource "dek_tenant" "c" {
				tenant_id       = "3fa85f64-5717-4562-b3fc-2c963f66afa6"
				deletion_window = "31d"
			}
			resource "dek_rotation_settings" "s" { rotation_interval = "91d" }
			resource "dek_key_provider" "p" {
				name       = "owner"
				type       = "transit"
				parameters = { token = "not-for-the-state" }
			}`, uuid.NewString()), PlanOnly: true}},
	})
}

// What the engine refuses arrives with its words, and nothing is made of it.
func TestRefusalsOfTheEngine(t *testing.T) {
	e := newEngine(t)
	id := uuid.NewString()
	e.try(
		resource.TestStep{
			Config:      e.as("hvs.unknown", `resource "dek_tenant" "t" { tenant_id = %q }`, id),
			ExpectError: regexp.MustCompile(`(?s)was not created.*403`),
		},
		resource.TestStep{
			Config:      e.config(`resource "dek_config" "c" { rotation_parallelism = 33 }`),
			ExpectError: regexp.MustCompile(`(?s)was not written.*rotation_parallelism\s+must\s+be\s+from\s+1\s+to\s+32`),
		},
		resource.TestStep{
			Config:       e.config(`resource "dek_config" "c" {}`),
			ResourceName: "dek_config.c", ImportState: true, ImportStateId: "other", ExpectError: regexp.MustCompile("Another mount"),
		},
		resource.TestStep{
			Config: e.config(`resource "dek_key_provider" "p" {
				name = "p"
				type = "transit"
			}`),
			ResourceName: "dek_key_provider.p", ImportState: true, ImportStateId: "..", ExpectError: regexp.MustCompile("Not the name of a key provider"),
		},
		resource.TestStep{
			Config:       e.config(`resource "dek_tenant" "t" { tenant_id = %q }`, id),
			ResourceName: "dek_tenant.t", ImportState: true, ImportStateId: "../config", ExpectError: regexp.MustCompile("UUID in lower case"),
		},
		resource.TestStep{
			Config: e.config(`resource "dek_holder" "h" {
				tenant_id = %q
				name      = "h"
			}`, id),
			ResourceName: "dek_holder.h", ImportState: true, ImportStateId: id + "/../dek", ExpectError: regexp.MustCompile("an item has a kind"),
		},
	)
	require.True(t, e.absent("tenants/"+id))
}
