// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package provider

import (
	"context"
	"errors"
	"fmt"

	"github.com/hashicorp/terraform-plugin-framework/diag"
	"github.com/hashicorp/terraform-plugin-framework/path"
	"github.com/hashicorp/terraform-plugin-framework/resource"
	"github.com/hashicorp/terraform-plugin-framework/tfsdk"
	"github.com/hashicorp/terraform-plugin-framework/types"

	"github.com/vault-plugin-dek/vault-plugin-dek/client"
)

// errProviderTaken reports a key provider that is there before it is created.
var errProviderTaken = errors.New("there is such a key provider already: import it (tofu import ADDRESS NAME), or choose another name")

func (r *keyProvider) Create(ctx context.Context, req resource.CreateRequest, resp *resource.CreateResponse) {
	ctx = warned(ctx, &resp.Diagnostics)
	var name types.String
	resp.Diagnostics.Append(req.Plan.GetAttribute(ctx, path.Root("name"), &name)...)
	if resp.Diagnostics.HasError() {
		return
	}
	_, err := r.Provider(ctx, name.ValueString())
	if err == nil {
		err = errProviderTaken
	}
	if !errors.Is(err, client.ErrNotFound) {
		failed(&resp.Diagnostics, fmt.Sprintf("Key provider %s was not created", name.ValueString()), err)
		return
	}
	r.write(ctx, req.Plan, req.Config, &resp.State, &resp.Diagnostics)
}

func (r *keyProvider) Update(ctx context.Context, req resource.UpdateRequest, resp *resource.UpdateResponse) {
	ctx = warned(ctx, &resp.Diagnostics)
	r.write(ctx, req.Plan, req.Config, &resp.State, &resp.Diagnostics)
}

// write writes what is planned. Credentials are in the configuration only.
func (r *keyProvider) write(ctx context.Context, plan tfsdk.Plan, written tfsdk.Config, state *tfsdk.State, diags *diag.Diagnostics) {
	var m keyProviderModel
	var secret types.Map
	diags.Append(plan.Get(ctx, &m)...)
	diags.Append(written.GetAttribute(ctx, path.Root("parameters_wo"), &secret)...)
	if diags.HasError() {
		return
	}
	change, more := m.change(ctx, secret)
	diags.Append(more...)
	if diags.HasError() {
		return
	}
	p, err := r.SetProvider(ctx, m.Name.ValueString(), change)
	if err != nil {
		failed(diags, fmt.Sprintf("Key provider %s was not written", m.Name.ValueString()), err)
		return
	}
	diags.Append(m.take(ctx, p)...)
	diags.Append(state.Set(ctx, m)...)
}

func (r *keyProvider) Read(ctx context.Context, req resource.ReadRequest, resp *resource.ReadResponse) {
	var m keyProviderModel
	resp.Diagnostics.Append(req.State.Get(ctx, &m)...)
	if resp.Diagnostics.HasError() {
		return
	}
	p, err := r.Provider(ctx, m.Name.ValueString())
	switch {
	case errors.Is(err, client.ErrNotFound):
		resp.State.RemoveResource(ctx)
	case err != nil:
		failed(&resp.Diagnostics, fmt.Sprintf("Key provider %s could not be read", m.Name.ValueString()), err)
	default:
		resp.Diagnostics.Append(m.take(ctx, p)...)
		resp.Diagnostics.Append(resp.State.Set(ctx, m)...)
	}
}

func (r *keyProvider) Delete(ctx context.Context, req resource.DeleteRequest, resp *resource.DeleteResponse) {
	ctx = warned(ctx, &resp.Diagnostics)
	var name types.String
	resp.Diagnostics.Append(req.State.GetAttribute(ctx, path.Root("name"), &name)...)
	if resp.Diagnostics.HasError() {
		return
	}
	if err := r.DeleteProvider(ctx, name.ValueString()); err != nil && !errors.Is(err, client.ErrNotFound) {
		failed(&resp.Diagnostics, fmt.Sprintf("Key provider %s was not deleted", name.ValueString()), err)
	}
}

func (r *keyProvider) ImportState(ctx context.Context, req resource.ImportStateRequest, resp *resource.ImportStateResponse) {
	if !providerName.MatchString(req.ID) {
		resp.Diagnostics.AddError("Not the name of a key provider", "It is 1 to 64 characters of a-z 0-9 - with a letter or digit at either end.")
		return
	}
	resource.ImportStatePassthroughID(ctx, path.Root("name"), req, resp)
}
