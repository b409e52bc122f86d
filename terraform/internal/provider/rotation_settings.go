// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package provider

import (
	"context"
	"fmt"
	"strings"

	"github.com/hashicorp/terraform-plugin-framework/diag"
	"github.com/hashicorp/terraform-plugin-framework/resource"
	"github.com/hashicorp/terraform-plugin-framework/resource/schema"
	"github.com/hashicorp/terraform-plugin-framework/resource/schema/planmodifier"
	"github.com/hashicorp/terraform-plugin-framework/resource/schema/stringplanmodifier"
	"github.com/hashicorp/terraform-plugin-framework/schema/validator"
	"github.com/hashicorp/terraform-plugin-framework/tfsdk"
	"github.com/hashicorp/terraform-plugin-framework/types"

	"github.com/vault-plugin-dek/vault-plugin-dek/client"
)

// rotationSettings is key/rotationSettings: how old the keys of tenants may get that have
// no interval of their own.
type rotationSettings struct{ base }

func newRotationSettings() resource.Resource { return new(rotationSettings) }

type rotationSettingsModel struct {
	Mount            types.String `tfsdk:"mount"`
	RotationInterval duration     `tfsdk:"rotation_interval"`
	OrgID            types.String `tfsdk:"org_id"`
}

func (*rotationSettings) Metadata(_ context.Context, _ resource.MetadataRequest, resp *resource.MetadataResponse) {
	resp.TypeName = "dek_rotation_settings"
}

func (*rotationSettings) Schema(_ context.Context, _ resource.SchemaRequest, resp *resource.SchemaResponse) {
	resp.Schema = schema.Schema{
		Description: "How old the keys of an organization's tenants may get. There is one of it for each mount. Destroying it changes nothing.",
		Attributes: map[string]schema.Attribute{
			"mount": mountAttribute,
			"rotation_interval": schema.StringAttribute{
				Required: true, CustomType: durationType{interval: true},
				Description:   "90_DAYS, 120_DAYS, 180_DAYS or 365_DAYS, or the same length in another spelling, such as 90d.",
				Validators:    []validator.String{namedLength{}},
				PlanModifiers: []planmodifier.String{keepSpelling{interval: true}},
			},
			"org_id": schema.StringAttribute{
				Computed: true, Description: "The organization's ID.",
				PlanModifiers: []planmodifier.String{stringplanmodifier.UseStateForUnknown()},
			},
		},
	}
}

// namedLength refuses intervals that an organization cannot have.
type namedLength struct{}

func (namedLength) Description(context.Context) string {
	return "An organization's interval is one of " + strings.Join(namedIntervals, ", ") + ", in any spelling."
}

func (v namedLength) MarkdownDescription(ctx context.Context) string { return v.Description(ctx) }

func (v namedLength) ValidateString(ctx context.Context, req validator.StringRequest, resp *validator.StringResponse) {
	d := duration{req.ConfigValue, true}
	if !d.isKnown() {
		return
	}
	if length, err := d.length(); err == nil && namedInterval(length) == "" {
		resp.Diagnostics.AddAttributeError(req.Path, "Not an organization's interval", v.Description(ctx))
	}
}

// write sets the interval, and the state to what the engine answers.
func (r *rotationSettings) write(ctx context.Context, plan tfsdk.Plan, state *tfsdk.State, diags *diag.Diagnostics) {
	var m rotationSettingsModel
	diags.Append(plan.Get(ctx, &m)...)
	if diags.HasError() {
		return
	}
	length, err := m.RotationInterval.length()
	if err != nil {
		diags.AddError("Not a duration", err.Error())
		return
	}
	s, err := r.SetRotationInterval(ctx, namedInterval(length))
	if err != nil {
		failed(diags, fmt.Sprintf("The rotation settings of %s/ were not written", r.path), err)
		return
	}
	m.take(r.path, s)
	diags.Append(state.Set(ctx, m)...)
}

func (m *rotationSettingsModel) take(mount string, s *client.RotationSettings) {
	m.Mount = types.StringValue(mount)
	m.RotationInterval = intervalOf(s.RotationInterval)
	m.OrgID = types.StringValue(s.OrgID)
}

func (r *rotationSettings) Create(ctx context.Context, req resource.CreateRequest, resp *resource.CreateResponse) {
	ctx = warned(ctx, &resp.Diagnostics)
	r.write(ctx, req.Plan, &resp.State, &resp.Diagnostics)
}

func (r *rotationSettings) Update(ctx context.Context, req resource.UpdateRequest, resp *resource.UpdateResponse) {
	ctx = warned(ctx, &resp.Diagnostics)
	r.write(ctx, req.Plan, &resp.State, &resp.Diagnostics)
}

func (r *rotationSettings) Read(ctx context.Context, _ resource.ReadRequest, resp *resource.ReadResponse) {
	s, err := r.RotationSettings(ctx)
	if err != nil {
		failed(&resp.Diagnostics, fmt.Sprintf("The rotation settings of %s/ could not be read", r.path), err)
		return
	}
	var m rotationSettingsModel
	m.take(r.path, s)
	resp.Diagnostics.Append(resp.State.Set(ctx, m)...)
}

func (r *rotationSettings) Delete(_ context.Context, _ resource.DeleteRequest, resp *resource.DeleteResponse) {
	r.stays(resp, "rotation settings")
}

func (r *rotationSettings) ImportState(ctx context.Context, req resource.ImportStateRequest, resp *resource.ImportStateResponse) {
	r.importMount(ctx, req, resp)
}
