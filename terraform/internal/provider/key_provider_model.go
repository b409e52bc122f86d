// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package provider

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/hashicorp/terraform-plugin-framework/diag"
	"github.com/hashicorp/terraform-plugin-framework/types"

	"github.com/vault-plugin-dek/vault-plugin-dek/client"
)

type keyProviderModel struct {
	Name                types.String `tfsdk:"name"`
	Type                types.String `tfsdk:"type"`
	Parameters          types.Map    `tfsdk:"parameters"`
	ParametersWO        types.Map    `tfsdk:"parameters_wo"`
	ParametersWOVersion types.String `tfsdk:"parameters_wo_version"`
	Socket              types.String `tfsdk:"socket"`
	Lease               duration     `tfsdk:"lease"`
	Grace               duration     `tfsdk:"grace"`
	Timeout             duration     `tfsdk:"timeout"`
	Mount               types.Bool   `tfsdk:"mount"`
	Tenants             types.Set    `tfsdk:"tenants"`
}

// configured is what the engine answers instead of a credential.
const configured = "<configured>"

// take sets what the engine tells. Credentials are not among that.
func (m *keyProviderModel) take(ctx context.Context, p *client.Provider) (diags diag.Diagnostics) {
	m.Type = types.StringValue(p.Type)
	m.Socket = types.StringValue(p.Socket)
	m.Lease = durationOf(time.Duration(p.Lease))
	m.Grace = durationOf(time.Duration(p.Grace))
	m.Timeout = durationOf(time.Duration(p.Timeout))
	m.Mount = types.BoolValue(p.Mount)
	shown := maps.Clone(p.Parameters)
	maps.DeleteFunc(shown, func(_, value string) bool { return value == configured })
	if len(shown) > 0 || len(m.Parameters.Elements()) > 0 {
		var more diag.Diagnostics
		m.Parameters, more = types.MapValueFrom(ctx, types.StringType, shown)
		diags.Append(more...)
	}
	m.ParametersWO = types.MapNull(types.StringType)
	tenants, more := types.SetValueFrom(ctx, types.StringType, append([]string{}, p.Tenants...))
	m.Tenants = tenants
	diags.Append(more...)
	return diags
}

// change is all that the configuration says, credentials included: the engine takes the
// parameters of a provider as a whole.
func (m *keyProviderModel) change(ctx context.Context, secret types.Map) (client.ProviderChange, diag.Diagnostics) {
	parameters, more, tenants := map[string]string{}, map[string]string{}, []string{}
	diags := m.Parameters.ElementsAs(ctx, &parameters, false)
	diags.Append(secret.ElementsAs(ctx, &more, false)...)
	diags.Append(m.Tenants.ElementsAs(ctx, &tenants, false)...)
	for name := range more {
		if _, twice := parameters[name]; twice {
			diags.AddError("A parameter is given twice", fmt.Sprintf("%s is in parameters and in parameters_wo.", name))
		}
	}
	if parameters == nil {
		parameters = map[string]string{}
	}
	maps.Copy(parameters, more)
	slices.Sort(tenants)
	return client.ProviderChange{
		Type: m.Type.ValueStringPointer(), Parameters: parameters, Socket: m.Socket.ValueStringPointer(),
		Lease: m.Lease.sent(), Grace: m.Grace.sent(), Timeout: m.Timeout.sent(),
		Mount: m.Mount.ValueBoolPointer(), Tenants: &tenants,
	}, diags
}
