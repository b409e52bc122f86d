// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package provider

import (
	"context"
	"fmt"

	"github.com/hashicorp/terraform-plugin-framework/path"
	"github.com/hashicorp/terraform-plugin-framework/resource"
	"github.com/hashicorp/terraform-plugin-framework/resource/schema"
	"github.com/hashicorp/terraform-plugin-framework/resource/schema/int64planmodifier"
	"github.com/hashicorp/terraform-plugin-framework/resource/schema/planmodifier"
	"github.com/hashicorp/terraform-plugin-framework/resource/schema/stringplanmodifier"
	"github.com/hashicorp/terraform-plugin-framework/types"
)

// config is config: what holds for a whole mount.
type config struct{ base }

func newConfig() resource.Resource { return new(config) }

func (*config) Metadata(_ context.Context, _ resource.MetadataRequest, resp *resource.MetadataResponse) {
	resp.TypeName = "dek_config"
}

func (*config) Schema(_ context.Context, _ resource.SchemaRequest, resp *resource.SchemaResponse) {
	resp.Schema = schema.Schema{
		Description: "What holds for a whole mount. There is one of it for each. What the configuration leaves out stays as the mount has it. Destroying it changes nothing.",
		Attributes: map[string]schema.Attribute{
			"mount": mountAttribute,
			"org_id": schema.StringAttribute{
				Optional: true, Computed: true, Description: "The organization's ID. The engine's default: the mount's UUID.",
				PlanModifiers: []planmodifier.String{stringplanmodifier.UseStateForUnknown()},
			},
			"rotation_parallelism":      kept("How many pages rotations have in flight, over all tenants: 1 to 32."),
			"max_item_bytes":            kept("How many bytes an encoded item may have: 1 to 393216."),
			"max_concurrent_rotations":  kept("How many rotations the schedule has unfinished at a time: 1 to 1024."),
			"manual_rotations_per_hour": kept("How many rotations of one tenant callers may start in an hour; 0: there is no limit."),
			"cache_bytes":               kept("How many bytes the caches may take together; 0: the machine's memory decides."),
			"retired_key_retention":     keptDuration("How long a key is kept after a rotation has left it; 0 destroys it at once."),
			"scheduler_jitter":          keptDuration("Over which time the schedule spreads rotations that are due at once: 0 to 30d."),
			"data_key_lease":            keptDuration("How long a caller may go on using a data key: 0 to 24h."),
			"kek_rotation_interval":     keptDuration("How old the key-encryption key may get; 0: it is rotated by hand alone."),
			"min_deletion_window": keptDuration("How long a deleted tenant can be restored at least: 0 to 720h. Raising it holds at once. " +
				"A lower one holds once the one in force has passed, at once while the mount has no tenant; until then this is the one that is to come."),
			"min_deletion_window_in_force": schema.StringAttribute{
				Computed: true, CustomType: durationType{}, Description: "The least deletion window that holds now.",
			},
		},
	}
}

// kept is a number that stays as the mount has it if the configuration leaves it out.
func kept(description string) schema.Int64Attribute {
	return schema.Int64Attribute{
		Optional: true, Computed: true, Description: description,
		PlanModifiers: []planmodifier.Int64{int64planmodifier.UseStateForUnknown()},
	}
}

// keptDuration is such a duration.
func keptDuration(description string) schema.StringAttribute {
	return schema.StringAttribute{
		Optional: true, Computed: true, CustomType: durationType{}, Description: description,
		PlanModifiers: []planmodifier.String{stringplanmodifier.UseStateForUnknown(), keepSpelling{}},
	}
}

// ModifyPlan keeps what holds now out of a plan that changes nothing else: another
// spelling of a duration has made it unknown.
func (*config) ModifyPlan(ctx context.Context, req resource.ModifyPlanRequest, resp *resource.ModifyPlanResponse) {
	if req.State.Raw.IsNull() || req.Plan.Raw.IsNull() {
		return
	}
	var inForce duration
	name := path.Root("min_deletion_window_in_force")
	resp.Diagnostics.Append(req.State.GetAttribute(ctx, name, &inForce)...)
	planned := req.Plan
	resp.Diagnostics.Append(planned.SetAttribute(ctx, name, inForce)...)
	if !resp.Diagnostics.HasError() && planned.Raw.Equal(req.State.Raw) {
		resp.Plan = planned
	}
}

func (r *config) Create(ctx context.Context, req resource.CreateRequest, resp *resource.CreateResponse) {
	ctx = warned(ctx, &resp.Diagnostics)
	var plan, was configModel
	resp.Diagnostics.Append(req.Plan.Get(ctx, &plan)...)
	if resp.Diagnostics.HasError() {
		return
	}
	r.write(ctx, plan, was, &resp.State, &resp.Diagnostics)
}

func (r *config) Update(ctx context.Context, req resource.UpdateRequest, resp *resource.UpdateResponse) {
	ctx = warned(ctx, &resp.Diagnostics)
	var plan, was configModel
	resp.Diagnostics.Append(req.Plan.Get(ctx, &plan)...)
	resp.Diagnostics.Append(req.State.Get(ctx, &was)...)
	if resp.Diagnostics.HasError() {
		return
	}
	r.write(ctx, plan, was, &resp.State, &resp.Diagnostics)
}

func (r *config) Read(ctx context.Context, _ resource.ReadRequest, resp *resource.ReadResponse) {
	c, err := r.Config(ctx)
	if err != nil {
		failed(&resp.Diagnostics, fmt.Sprintf("The configuration of %s/ could not be read", r.path), err)
		return
	}
	m := configModel{Mount: types.StringValue(r.path)}
	m.take(c)
	resp.Diagnostics.Append(resp.State.Set(ctx, m)...)
}

func (r *config) Delete(_ context.Context, _ resource.DeleteRequest, resp *resource.DeleteResponse) {
	r.stays(resp, "a configuration")
}

func (r *config) ImportState(ctx context.Context, req resource.ImportStateRequest, resp *resource.ImportStateResponse) {
	r.importMount(ctx, req, resp)
}
