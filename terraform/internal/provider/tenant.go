// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package provider

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"time"

	"github.com/hashicorp/terraform-plugin-framework-validators/stringvalidator"
	"github.com/hashicorp/terraform-plugin-framework/path"
	"github.com/hashicorp/terraform-plugin-framework/resource"
	"github.com/hashicorp/terraform-plugin-framework/resource/schema"
	"github.com/hashicorp/terraform-plugin-framework/resource/schema/booldefault"
	"github.com/hashicorp/terraform-plugin-framework/resource/schema/planmodifier"
	"github.com/hashicorp/terraform-plugin-framework/resource/schema/stringdefault"
	"github.com/hashicorp/terraform-plugin-framework/resource/schema/stringplanmodifier"
	"github.com/hashicorp/terraform-plugin-framework/schema/validator"
	"github.com/hashicorp/terraform-plugin-framework/types"

	"github.com/vault-plugin-dek/vault-plugin-dek/client"
)

// tenant is tenants/{tenant_id}.
type tenant struct{ base }

func newTenant() resource.Resource { return new(tenant) }

type tenantModel struct {
	TenantID         types.String `tfsdk:"tenant_id"`
	DisplayName      types.String `tfsdk:"display_name"`
	KeyType          types.String `tfsdk:"key_type"`
	RotationInterval duration     `tfsdk:"rotation_interval"`
	RotationPaused   types.Bool   `tfsdk:"rotation_paused"`
	KeyProvider      types.String `tfsdk:"key_provider"`
	DeletionWindow   duration     `tfsdk:"deletion_window"`
	CreatedAt        types.String `tfsdk:"created_at"`
}

func (*tenant) Metadata(_ context.Context, _ resource.MetadataRequest, resp *resource.MetadataResponse) {
	resp.TypeName = "dek_tenant"
}

var tenantIDPattern = regexp.MustCompile(`^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$`)

// tenantID is the attribute that names a tenant, wherever one is needed.
var tenantID = schema.StringAttribute{
	Required: true, Description: "The tenant's ID, a UUID in lower case.",
	Validators:    []validator.String{stringvalidator.RegexMatches(tenantIDPattern, "must be a UUID in lower case")},
	PlanModifiers: []planmodifier.String{stringplanmodifier.RequiresReplace()},
}

func (*tenant) Schema(_ context.Context, _ resource.SchemaRequest, resp *resource.SchemaResponse) {
	resp.Schema = schema.Schema{
		Description: "A tenant, with a data-encryption key of its own. Destroying it schedules that its keys are destroyed, " +
			"and with them everything that is encrypted under them anywhere.",
		Attributes: map[string]schema.Attribute{
			"tenant_id": tenantID,
			"display_name": schema.StringAttribute{
				Optional: true, Computed: true, Default: stringdefault.StaticString(""), Description: "A name for people.",
			},
			"key_type": schema.StringAttribute{
				Optional: true, Computed: true,
				Description:   "xaes256-gcm (the engine's default) or aes256-gcm. A change starts a rotation of the key; nothing is lost.",
				Validators:    []validator.String{stringvalidator.OneOf("xaes256-gcm", "aes256-gcm")},
				PlanModifiers: []planmodifier.String{stringplanmodifier.UseStateForUnknown()},
			},
			"rotation_interval": schema.StringAttribute{
				Optional: true, Computed: true, CustomType: durationType{interval: true}, Default: stringdefault.StaticString(""),
				Description:   "How old the key may get: 90_DAYS, 120_DAYS, 180_DAYS or 365_DAYS, or a duration from 1h to 3650d. Default: empty, as the organization's.",
				PlanModifiers: []planmodifier.String{keepSpelling{interval: true}},
			},
			"rotation_paused": schema.BoolAttribute{
				Optional: true, Computed: true, Default: booldefault.StaticBool(false), Description: "Whether the schedule passes the tenant over. Default: false.",
			},
			"key_provider": schema.StringAttribute{
				Optional: true, Computed: true, Default: stringdefault.StaticString(""),
				Description: "The key provider that a key-encryption key of the tenant's own is under. Default: empty, the mount's wraps its keys. A change moves the tenant's keys, and waits for that.",
			},
			"deletion_window": schema.StringAttribute{
				Optional: true, CustomType: durationType{},
				Description: "How long the tenant can be restored after it was destroyed here: from the mount's min_deletion_window to 720h. It is sent with the deletion, " +
					"so it must be applied before. Default: the engine's, 168h or min_deletion_window, the longer.",
				Validators:    []validator.String{atMost(720 * time.Hour)},
				PlanModifiers: []planmodifier.String{keepSpelling{}},
			},
			"created_at": schema.StringAttribute{
				Computed: true, Description: "When the tenant was created.",
				PlanModifiers: []planmodifier.String{stringplanmodifier.UseStateForUnknown()},
			},
		},
	}
}

// take sets what the engine tells. The deletion window is not the engine's to tell.
func (m *tenantModel) take(t *client.TenantInfo) {
	m.TenantID = types.StringValue(t.ID)
	m.DisplayName = types.StringValue(t.DisplayName)
	m.KeyType = types.StringValue(t.KeyType)
	m.RotationInterval = intervalOf(t.RotationInterval)
	m.RotationPaused = types.BoolValue(t.RotationPaused)
	m.KeyProvider = types.StringValue(t.KeyProvider)
	m.CreatedAt = types.StringValue(t.CreatedAt.UTC().Format(time.RFC3339Nano))
}

// change is what a write sends: all that the plan knows.
func (m *tenantModel) change() client.TenantSettings {
	return client.TenantSettings{
		DisplayName: m.DisplayName.ValueStringPointer(), RotationInterval: m.RotationInterval.sentInterval(),
		RotationPaused: m.RotationPaused.ValueBoolPointer(),
	}
}

func (r *tenant) Create(ctx context.Context, req resource.CreateRequest, resp *resource.CreateResponse) {
	ctx = warned(ctx, &resp.Diagnostics)
	var m tenantModel
	resp.Diagnostics.Append(req.Plan.Get(ctx, &m)...)
	if resp.Diagnostics.HasError() {
		return
	}
	info, err := r.create(ctx, &m)
	if err != nil {
		failed(&resp.Diagnostics, fmt.Sprintf("Tenant %s was not created", m.TenantID.ValueString()), err)
		return
	}
	m.take(info)
	resp.Diagnostics.Append(resp.State.Set(ctx, m)...)
}

// errTaken reports a tenant that is there before it is created: a write would change what
// another user has made.
var errTaken = errors.New("there is such a tenant already: import it (tofu import ADDRESS TENANT_ID), or choose another ID")

func (r *tenant) create(ctx context.Context, m *tenantModel) (*client.TenantInfo, error) {
	t, err := r.Tenant(m.TenantID.ValueString())
	if err != nil {
		return nil, err
	}
	switch info, err := t.Read(ctx); {
	case err == nil && info.State == deleting:
		return nil, r.errDeleting(info)
	case err == nil:
		return nil, errTaken
	case !errors.Is(err, client.ErrNotFound):
		return nil, err
	}
	s := m.change()
	if m.KeyType.ValueString() != "" {
		s.KeyType = m.KeyType.ValueStringPointer()
	}
	if m.KeyProvider.ValueString() != "" {
		s.KeyProvider = m.KeyProvider.ValueStringPointer()
	}
	return t.Write(ctx, s)
}

func (r *tenant) Read(ctx context.Context, req resource.ReadRequest, resp *resource.ReadResponse) {
	var m tenantModel
	resp.Diagnostics.Append(req.State.Get(ctx, &m)...)
	if resp.Diagnostics.HasError() {
		return
	}
	t, err := r.Tenant(m.TenantID.ValueString())
	var info *client.TenantInfo
	if err == nil {
		info, err = t.Read(ctx)
	}
	switch {
	case errors.Is(err, client.ErrNotFound):
		resp.State.RemoveResource(ctx)
	case err != nil:
		failed(&resp.Diagnostics, fmt.Sprintf("Tenant %s could not be read", m.TenantID.ValueString()), err)
	case info.State == deleting:
		resp.Diagnostics.AddWarning(fmt.Sprintf("Tenant %s is being deleted", info.ID), r.errDeleting(info).Error())
		resp.State.RemoveResource(ctx)
	default:
		m.take(info)
		resp.Diagnostics.Append(resp.State.Set(ctx, m)...)
	}
}

func (r *tenant) ImportState(ctx context.Context, req resource.ImportStateRequest, resp *resource.ImportStateResponse) {
	resource.ImportStatePassthroughID(ctx, path.Root("tenant_id"), req, resp)
}
