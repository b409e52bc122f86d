// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package provider

import (
	"context"
	"regexp"
	"slices"

	"github.com/hashicorp/terraform-plugin-framework-validators/stringvalidator"
	"github.com/hashicorp/terraform-plugin-framework/attr"
	"github.com/hashicorp/terraform-plugin-framework/resource"
	"github.com/hashicorp/terraform-plugin-framework/resource/schema"
	"github.com/hashicorp/terraform-plugin-framework/resource/schema/booldefault"
	"github.com/hashicorp/terraform-plugin-framework/resource/schema/planmodifier"
	"github.com/hashicorp/terraform-plugin-framework/resource/schema/setdefault"
	"github.com/hashicorp/terraform-plugin-framework/resource/schema/stringdefault"
	"github.com/hashicorp/terraform-plugin-framework/resource/schema/stringplanmodifier"
	"github.com/hashicorp/terraform-plugin-framework/schema/validator"
	"github.com/hashicorp/terraform-plugin-framework/types"
)

// keyProvider is providers/{name}: a key outside of Vault's storage that wraps
// key-encryption keys.
type keyProvider struct{ base }

func newKeyProvider() resource.Resource { return new(keyProvider) }

func (*keyProvider) Metadata(_ context.Context, _ resource.MetadataRequest, resp *resource.MetadataResponse) {
	resp.TypeName = "dek_key_provider"
}

// credentials are the parameters that the engine never shows. In parameters they would lie
// in the state and in plans.
var credentials = []string{
	"token", "tls_client_key", "access_key", "secret_key", "session_token", "credentials", "client_secret",
}

// noCredentials refuses them in parameters.
type noCredentials struct{}

func (noCredentials) Description(context.Context) string {
	return "Credentials are given in parameters_wo."
}

func (v noCredentials) MarkdownDescription(ctx context.Context) string { return v.Description(ctx) }

func (noCredentials) ValidateMap(_ context.Context, req validator.MapRequest, resp *validator.MapResponse) {
	for name := range req.ConfigValue.Elements() {
		if slices.Contains(credentials, name) {
			resp.Diagnostics.AddAttributeError(req.Path.AtMapKey(name), "A credential would lie in the state",
				name+" is a credential: give it in parameters_wo.")
		}
	}
}

var providerName = regexp.MustCompile(`^[a-z0-9]([a-z0-9-]{0,62}[a-z0-9])?$`)

func (*keyProvider) Schema(_ context.Context, _ resource.SchemaRequest, resp *resource.SchemaResponse) {
	resp.Schema = schema.Schema{
		Description: "A key outside of Vault's storage that wraps key-encryption keys. The engine wraps and unwraps a probe with it before it is written. One that is in use cannot be destroyed.",
		Attributes: map[string]schema.Attribute{
			"name": schema.StringAttribute{
				Required: true, Description: "The provider's name: 1 to 64 characters of a-z 0-9 - with a letter or digit at either end.",
				Validators:    []validator.String{stringvalidator.RegexMatches(providerName, "must be 1 to 64 characters of a-z 0-9 - with a letter or digit at either end")},
				PlanModifiers: []planmodifier.String{stringplanmodifier.RequiresReplace()},
			},
			"type": schema.StringAttribute{
				Required: true, Description: "A type that the engine has, such as transit or kmsv2.",
				// What one type has wrapped no other opens, so a change in place would be refused.
				PlanModifiers: []planmodifier.String{stringplanmodifier.RequiresReplace()},
			},
			"parameters": schema.MapAttribute{
				Optional: true, ElementType: types.StringType,
				Description: "How the provider is reached, as in Vault's seal stanza of that type, without credentials.",
				Validators:  []validator.Map{noCredentials{}},
			},
			"parameters_wo": schema.MapAttribute{
				Optional: true, Sensitive: true, WriteOnly: true, ElementType: types.StringType,
				Description: "The parameters that are credentials, such as token. They are sent with every write, and are neither in the plan nor in the state.",
			},
			"parameters_wo_version": schema.StringAttribute{
				Optional:    true,
				Description: "Change it to have parameters_wo sent when nothing else has changed: OpenTofu does not see that they have.",
			},
			"socket": schema.StringAttribute{
				Optional: true, Computed: true, Default: stringdefault.StaticString(""),
				Description: "Of type kmsv2: the Unix socket of a Kubernetes KMS v2 plugin.",
			},
			"lease":   providerDuration("How long an opened key is used without asking again: 10s to 24h.", "5m"),
			"grace":   providerDuration("How much longer while the provider is unavailable: 0 to 24h.", "0s"),
			"timeout": providerDuration("How long a call may take: 1s to 1m.", "5s"),
			"mount": schema.BoolAttribute{
				Optional: true, Computed: true, Default: booldefault.StaticBool(false),
				Description: "Whether the mount's key-encryption key may be put under it. Default: false.",
			},
			"tenants": schema.SetAttribute{
				Optional: true, Computed: true, ElementType: types.StringType,
				Default:     setdefault.StaticValue(types.SetValueMust(types.StringType, []attr.Value{})),
				Description: "The IDs of the tenants whose own key-encryption keys may be put under it, or * alone for all. Default: none.",
			},
		},
	}
}

func providerDuration(description, value string) schema.StringAttribute {
	return schema.StringAttribute{
		Optional: true, Computed: true, CustomType: durationType{}, Default: stringdefault.StaticString(value),
		Description:   description + " Default: " + value + ".",
		PlanModifiers: []planmodifier.String{keepSpelling{}},
	}
}
