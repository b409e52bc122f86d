// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package provider

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/hashicorp/terraform-plugin-framework/diag"
	"github.com/hashicorp/terraform-plugin-framework/path"
	"github.com/hashicorp/terraform-plugin-framework/resource"
	"github.com/hashicorp/terraform-plugin-framework/resource/schema"
	"github.com/hashicorp/terraform-plugin-framework/resource/schema/planmodifier"
	"github.com/hashicorp/terraform-plugin-framework/resource/schema/stringdefault"
	"github.com/hashicorp/terraform-plugin-framework/resource/schema/stringplanmodifier"
	"github.com/hashicorp/terraform-plugin-framework/types"

	"github.com/vault-plugin-dek/vault-plugin-dek/client"
)

// holder is tenants/{tenant_id}/holders/{name}: a place that keeps ciphertexts.
type holder struct{ base }

func newHolder() resource.Resource { return new(holder) }

type holderModel struct {
	TenantID    types.String `tfsdk:"tenant_id"`
	Name        types.String `tfsdk:"name"`
	Description types.String `tfsdk:"description"`
	BackupsKept duration     `tfsdk:"backups_kept"`
}

func (*holder) Metadata(_ context.Context, _ resource.MetadataRequest, resp *resource.MetadataResponse) {
	resp.TypeName = "dek_holder"
}

func (*holder) Schema(_ context.Context, _ resource.SchemaRequest, resp *resource.SchemaResponse) {
	resp.Schema = schema.Schema{
		Description: "A place that keeps ciphertexts of a tenant: a table, a bucket. Destroying it says that nothing is held there any more, and where the tenant follows its holders, keys may go that nothing else holds.",
		Attributes: map[string]schema.Attribute{
			"tenant_id": tenantID,
			"name": schema.StringAttribute{
				Required: true, Description: "The holder's name: 1 to 256 characters of A-Z a-z 0-9 . _ @ : - with / between parts.",
				PlanModifiers: []planmodifier.String{stringplanmodifier.RequiresReplace()},
			},
			"description": schema.StringAttribute{
				Optional: true, Computed: true, Default: stringdefault.StaticString(""), Description: "What it is, for people.",
			},
			"backups_kept": schema.StringAttribute{
				Optional: true, Computed: true, CustomType: durationType{}, Default: stringdefault.StaticString("0s"),
				Description:   "How long backups of the place are kept: 0 to 3650d. Keys are kept for so much longer. Default: 0s.",
				PlanModifiers: []planmodifier.String{keepSpelling{}},
			},
		},
	}
}

func (m *holderModel) take(h *client.Holder) {
	m.Description = types.StringValue(h.Description)
	m.BackupsKept = durationOf(time.Duration(h.BackupsKept))
}

func (m *holderModel) change() client.HolderSettings {
	return client.HolderSettings{Description: m.Description.ValueStringPointer(), BackupsKept: m.BackupsKept.sent()}
}

func (m *holderModel) failed(diags *diag.Diagnostics, what string, err error) {
	failed(diags, fmt.Sprintf("Holder %s of tenant %s %s", m.Name.ValueString(), m.TenantID.ValueString(), what), err)
}

// errHolderTaken reports a holder that is there before it is created.
var errHolderTaken = errors.New("there is such a holder already: import it (tofu import ADDRESS TENANT_ID/NAME), or choose another name")

func (r *holder) Create(ctx context.Context, req resource.CreateRequest, resp *resource.CreateResponse) {
	ctx = warned(ctx, &resp.Diagnostics)
	var m holderModel
	resp.Diagnostics.Append(req.Plan.Get(ctx, &m)...)
	if resp.Diagnostics.HasError() {
		return
	}
	t, err := r.Tenant(m.TenantID.ValueString())
	if err == nil {
		if _, err = t.Holder(ctx, m.Name.ValueString()); err == nil {
			err = errHolderTaken
		}
	}
	if !errors.Is(err, client.ErrNotFound) || errors.Is(err, client.ErrNoTenant) {
		m.failed(&resp.Diagnostics, "was not created", err)
		return
	}
	h, err := t.WriteHolder(ctx, m.Name.ValueString(), m.change())
	if err != nil {
		m.failed(&resp.Diagnostics, "was not created", err)
		return
	}
	m.take(h)
	resp.Diagnostics.Append(resp.State.Set(ctx, m)...)
}

func (r *holder) Read(ctx context.Context, req resource.ReadRequest, resp *resource.ReadResponse) {
	var m holderModel
	resp.Diagnostics.Append(req.State.Get(ctx, &m)...)
	if resp.Diagnostics.HasError() {
		return
	}
	t, err := r.Tenant(m.TenantID.ValueString())
	var h *client.Holder
	if err == nil {
		h, err = t.Holder(ctx, m.Name.ValueString())
	}
	switch {
	case errors.Is(err, client.ErrNotFound):
		resp.State.RemoveResource(ctx)
	case err != nil:
		m.failed(&resp.Diagnostics, "could not be read", err)
	default:
		m.take(h)
		resp.Diagnostics.Append(resp.State.Set(ctx, m)...)
	}
}

// Update is Create without the question whether the holder is there: a write of one that
// was deleted since the plan names it again.
func (r *holder) Update(ctx context.Context, req resource.UpdateRequest, resp *resource.UpdateResponse) {
	ctx = warned(ctx, &resp.Diagnostics)
	var m holderModel
	resp.Diagnostics.Append(req.Plan.Get(ctx, &m)...)
	if resp.Diagnostics.HasError() {
		return
	}
	t, err := r.Tenant(m.TenantID.ValueString())
	var h *client.Holder
	if err == nil {
		h, err = t.WriteHolder(ctx, m.Name.ValueString(), m.change())
	}
	if err != nil {
		m.failed(&resp.Diagnostics, "was not changed", err)
		return
	}
	m.take(h)
	resp.Diagnostics.Append(resp.State.Set(ctx, m)...)
}

func (r *holder) Delete(ctx context.Context, req resource.DeleteRequest, resp *resource.DeleteResponse) {
	ctx = warned(ctx, &resp.Diagnostics)
	var m holderModel
	resp.Diagnostics.Append(req.State.Get(ctx, &m)...)
	if resp.Diagnostics.HasError() {
		return
	}
	t, err := r.Tenant(m.TenantID.ValueString())
	if err == nil {
		err = t.DeleteHolder(ctx, m.Name.ValueString())
	}
	if err != nil && !errors.Is(err, client.ErrNotFound) {
		m.failed(&resp.Diagnostics, "was not deleted", err)
	}
}

// ImportState takes TENANT_ID/NAME.
func (r *holder) ImportState(ctx context.Context, req resource.ImportStateRequest, resp *resource.ImportStateResponse) {
	tenant, name, found := strings.Cut(req.ID, "/")
	if !found || name == "" {
		resp.Diagnostics.AddError("Not the ID of a holder", "It is TENANT_ID/NAME.")
		return
	}
	resp.Diagnostics.Append(resp.State.SetAttribute(ctx, path.Root("tenant_id"), tenant)...)
	resp.Diagnostics.Append(resp.State.SetAttribute(ctx, path.Root("name"), name)...)
}
