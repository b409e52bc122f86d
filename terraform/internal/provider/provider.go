// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

// Package provider is the provider "dek" for OpenTofu and Terraform: the tenants, the
// settings, the key providers and the holders of one mount of vault-plugin-dek, as
// configuration.
//
// It holds nothing but a Vault token, and Vault's policies decide what that may do. It
// never reads an item, a key or a credential. What destroys keys is never a side effect
// here: a tenant goes only when its resource is destroyed, and then within the deletion
// window that the engine asks for.
package provider

import (
	"context"
	"os"
	"path/filepath"
	"strings"

	"github.com/hashicorp/terraform-plugin-framework/datasource"
	"github.com/hashicorp/terraform-plugin-framework/diag"
	"github.com/hashicorp/terraform-plugin-framework/path"
	"github.com/hashicorp/terraform-plugin-framework/provider"
	"github.com/hashicorp/terraform-plugin-framework/provider/schema"
	"github.com/hashicorp/terraform-plugin-framework/resource"
	"github.com/hashicorp/terraform-plugin-framework/types"
	"github.com/hashicorp/vault/api"

	"github.com/vault-plugin-dek/vault-plugin-dek/client"
	"github.com/vault-plugin-dek/vault-plugin-dek/internal/version"
)

// Address is the provider's address in configurations.
const Address = "registry.opentofu.org/vault-plugin-dek/dek"

// New makes the provider.
func New() provider.Provider { return new(dek) }

type dek struct{}

func (*dek) Metadata(_ context.Context, _ provider.MetadataRequest, resp *provider.MetadataResponse) {
	resp.TypeName = "dek"
	resp.Version = strings.TrimPrefix(version.Version(), "v")
}

func (*dek) Schema(_ context.Context, _ provider.SchemaRequest, resp *provider.SchemaResponse) {
	resp.Schema = schema.Schema{
		Description: "One mount of vault-plugin-dek: one organization. What is left out is as the vault command has it: VAULT_ADDR, VAULT_TOKEN or ~/.vault-token, VAULT_NAMESPACE, VAULT_CACERT and the rest.",
		Attributes: map[string]schema.Attribute{
			"address":   schema.StringAttribute{Optional: true, Description: "Vault's address. Default: VAULT_ADDR."},
			"token":     schema.StringAttribute{Optional: true, Sensitive: true, Description: "A Vault token. Default: VAULT_TOKEN, else ~/.vault-token."},
			"namespace": schema.StringAttribute{Optional: true, Description: "The namespace of the mount. Default: VAULT_NAMESPACE."},
			"ca_cert":   schema.StringAttribute{Optional: true, Description: "A file of CA certificates, PEM, to verify Vault's with. Default: VAULT_CACERT."},
			"mount":     schema.StringAttribute{Optional: true, Description: "Where the engine is mounted. Default: dek."},
		},
	}
}

type settings struct {
	Address   types.String `tfsdk:"address"`
	Token     types.String `tfsdk:"token"`
	Namespace types.String `tfsdk:"namespace"`
	CACert    types.String `tfsdk:"ca_cert"`
	Mount     types.String `tfsdk:"mount"`
}

// mount is what resources and data sources are given: a client of the engine, and where
// that is mounted.
type mount struct {
	*client.Client
	path string
}

func (*dek) Configure(ctx context.Context, req provider.ConfigureRequest, resp *provider.ConfigureResponse) {
	var s settings
	resp.Diagnostics.Append(req.Config.Get(ctx, &s)...)
	for name, v := range map[string]types.String{"address": s.Address, "token": s.Token, "namespace": s.Namespace, "ca_cert": s.CACert, "mount": s.Mount} {
		if v.IsUnknown() {
			resp.Diagnostics.AddAttributeError(path.Root(name), "Not known yet",
				"The provider asks Vault while it plans, so this must not depend on what is made in the same run. Apply that first, with -target.")
		}
	}
	if resp.Diagnostics.HasError() {
		return
	}
	m, err := s.connect()
	if err != nil {
		resp.Diagnostics.AddError("The provider's configuration is faulty", err.Error())
		return
	}
	resp.ResourceData, resp.DataSourceData = m, m
}

func (s settings) connect() (*mount, error) {
	config := api.DefaultConfig()
	if config.Error != nil {
		return nil, config.Error
	}
	if !s.Address.IsNull() {
		config.Address = s.Address.ValueString()
	}
	if !s.CACert.IsNull() {
		if err := config.ConfigureTLS(&api.TLSConfig{CACert: s.CACert.ValueString()}); err != nil {
			return nil, err
		}
	}
	vault, err := api.NewClient(config)
	if err != nil {
		return nil, err
	}
	switch {
	case !s.Token.IsNull():
		vault.SetToken(s.Token.ValueString())
	case vault.Token() == "":
		vault.SetToken(tokenOfHelper())
	}
	if !s.Namespace.IsNull() {
		vault.SetNamespace(s.Namespace.ValueString())
	}
	where := client.DefaultMount
	if !s.Mount.IsNull() {
		where = strings.Trim(s.Mount.ValueString(), "/")
	}
	c, err := client.New(vault, client.WithMount(where))
	return &mount{c, where}, err
}

// tokenOfHelper is the token that vault login has left, empty if there is none.
func tokenOfHelper() string {
	home, err := os.UserHomeDir()
	if err != nil {
		return ""
	}
	token, err := os.ReadFile(filepath.Join(home, ".vault-token")) // #nosec G304 -- where the vault command keeps it
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(token))
}

func (*dek) Resources(context.Context) []func() resource.Resource {
	return []func() resource.Resource{newTenant, newRotationSettings, newConfig, newKeyProvider, newHolder}
}

func (*dek) DataSources(context.Context) []func() datasource.DataSource {
	return []func() datasource.DataSource{newStatus, newRotation}
}

// given takes what Configure made out of a request. Before the provider is configured,
// which is so while a configuration is validated, there is none.
func given(data any, diags *diag.Diagnostics) *mount {
	m, ok := data.(*mount)
	if data != nil && !ok {
		diags.AddError("The provider is faulty", "A resource was given something else than a mount.")
	}
	return m
}

// base is what all resources have in common.
type base struct{ *mount }

func (b *base) Configure(_ context.Context, req resource.ConfigureRequest, resp *resource.ConfigureResponse) {
	b.mount = given(req.ProviderData, &resp.Diagnostics)
}
