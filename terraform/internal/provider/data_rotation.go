// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package provider

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/hashicorp/terraform-plugin-framework-validators/stringvalidator"
	"github.com/hashicorp/terraform-plugin-framework/datasource"
	"github.com/hashicorp/terraform-plugin-framework/datasource/schema"
	"github.com/hashicorp/terraform-plugin-framework/path"
	"github.com/hashicorp/terraform-plugin-framework/schema/validator"
	"github.com/hashicorp/terraform-plugin-framework/types"

	"github.com/vault-plugin-dek/vault-plugin-dek/client"
)

// rotation is tenants/{tenant_id}/dek/rotations/{rotation_id}.
type rotation struct{ source }

func newRotation() datasource.DataSource { return new(rotation) }

type rotationModel struct {
	TenantID            string            `tfsdk:"tenant_id"`
	RotationID          types.String      `tfsdk:"rotation_id"`
	PreviousKeyID       string            `tfsdk:"previous_key_id"`
	NewKeyID            string            `tfsdk:"new_key_id"`
	PreviousVersion     int64             `tfsdk:"previous_version"`
	NewVersion          int64             `tfsdk:"new_version"`
	Reason              string            `tfsdk:"reason"`
	Status              string            `tfsdk:"status"`
	StartedAt           string            `tfsdk:"started_at"`
	UpdatedAt           types.String      `tfsdk:"updated_at"`
	CompletedAt         types.String      `tfsdk:"completed_at"`
	EstimatedCompletion types.String      `tfsdk:"estimated_completion"`
	ItemsToRotate       map[string]int64  `tfsdk:"items_to_rotate"`
	ItemsRotated        map[string]int64  `tfsdk:"items_rotated"`
	ItemsFailed         int64             `tfsdk:"items_failed"`
	Failures            []failureModel    `tfsdk:"failures"`
	Percent             float64           `tfsdk:"percent"`
	ItemsPerSecond      float64           `tfsdk:"items_per_second"`
	InitiatedBy         map[string]string `tfsdk:"initiated_by"`
	Trigger             string            `tfsdk:"trigger"`
	WaitingFor          string            `tfsdk:"waiting_for"`
}

// failureModel is a page that did not open.
type failureModel struct {
	Page   string `tfsdk:"page"`
	Reason string `tfsdk:"reason"`
}

func (*rotation) Metadata(_ context.Context, _ datasource.MetadataRequest, resp *datasource.MetadataResponse) {
	resp.TypeName = "dek_rotation"
}

func (*rotation) Schema(_ context.Context, _ datasource.SchemaRequest, resp *datasource.SchemaResponse) {
	resp.Schema = schema.Schema{
		Description: "A rotation of a tenant's key: the one named, or the latest.",
		Attributes: map[string]schema.Attribute{
			"tenant_id": schema.StringAttribute{
				Required: true, Description: "The tenant's ID, a UUID in lower case.",
				Validators: []validator.String{stringvalidator.RegexMatches(tenantIDPattern, "must be a UUID in lower case")},
			},
			"rotation_id":          schema.StringAttribute{Optional: true, Computed: true, Description: "The rotation's ID. Default: the latest; null if there was none, and then all else is empty."},
			"previous_key_id":      text("The key before."),
			"new_key_id":           text("The key after."),
			"previous_version":     number("Its version."),
			"new_version":          number("Its version."),
			"reason":               text("Why, as who asked for it said."),
			"status":               text("in_progress, paused, rolling_back, completed, rolled_back or failed."),
			"started_at":           text("When it began."),
			"updated_at":           text("When it last went on."),
			"completed_at":         text("When it ended; null: it has not."),
			"estimated_completion": text("When it will end; null: it has."),
			"items_to_rotate":      counts("Items to re-encrypt, by credentials, api_keys, secrets."),
			"items_rotated":        counts("Items re-encrypted, by the same."),
			"items_failed":         number("Items that could not be."),
			"failures": schema.ListNestedAttribute{
				Computed: true, Description: "The first 100 pages that did not open.",
				NestedObject: schema.NestedAttributeObject{Attributes: map[string]schema.Attribute{
					"page": text("Which page."), "reason": text("Why it did not open."),
				}},
			},
			"percent":          schema.Float64Attribute{Computed: true, Description: "How far it is."},
			"items_per_second": schema.Float64Attribute{Computed: true, Description: "How fast it goes, or went."},
			"initiated_by":     textMap("Who asked for it: id, name and email."),
			"trigger":          text("manual, requested or scheduled."),
			"waiting_for":      text("The key provider that it waits for; empty: none."),
		},
	}
}

func (d *rotation) Read(ctx context.Context, req datasource.ReadRequest, resp *datasource.ReadResponse) {
	var m rotationModel
	resp.Diagnostics.Append(req.Config.GetAttribute(ctx, path.Root("tenant_id"), &m.TenantID)...)
	resp.Diagnostics.Append(req.Config.GetAttribute(ctx, path.Root("rotation_id"), &m.RotationID)...)
	if resp.Diagnostics.HasError() {
		return
	}
	r, err := d.find(ctx, m.TenantID, m.RotationID.ValueString())
	switch {
	case errors.Is(err, errNoRotation):
		m.RotationID = types.StringNull()
	case err != nil:
		failed(&resp.Diagnostics, fmt.Sprintf("The rotation of tenant %s could not be read", m.TenantID), err)
		return
	default:
		m.take(r)
	}
	resp.Diagnostics.Append(resp.State.Set(ctx, m)...)
}

// errNoRotation reports a tenant whose key was never rotated.
var errNoRotation = errors.New("there was no rotation")

func (d *rotation) find(ctx context.Context, tenantID, id string) (*client.Rotation, error) {
	t, err := d.Tenant(tenantID)
	if err != nil {
		return nil, err
	}
	if id == "" {
		latest, err := t.Rotations(ctx, client.Page{Limit: 1})
		if err != nil {
			return nil, err
		}
		if len(latest) == 0 {
			return nil, errNoRotation
		}
		id = latest[0]
	}
	return t.Rotation(ctx, id)
}

func (m *rotationModel) take(r *client.Rotation) {
	*m = rotationModel{
		TenantID: r.TenantID, RotationID: types.StringValue(r.ID), PreviousKeyID: r.PreviousKeyID, NewKeyID: r.NewKeyID,
		PreviousVersion: int64(r.PreviousVersion), NewVersion: int64(r.NewVersion), Reason: r.Reason, Status: string(r.Status),
		StartedAt: r.StartedAt.UTC().Format(time.RFC3339Nano), UpdatedAt: timeOf(r.UpdatedAt), CompletedAt: timeOf(r.CompletedAt),
		EstimatedCompletion: timeOf(r.EstimatedCompletion), ItemsToRotate: countsOf(r.ItemsToRotate), ItemsRotated: countsOf(r.ItemsRotated),
		ItemsFailed: int64(r.ItemsFailed), Percent: r.Percent, ItemsPerSecond: r.ItemsPerSecond, Trigger: r.Trigger, WaitingFor: r.WaitingFor,
		Failures:    failuresOf(r.Failures),
		InitiatedBy: map[string]string{"id": r.InitiatedBy.ID, "name": r.InitiatedBy.Name, "email": r.InitiatedBy.Email},
	}
}

func failuresOf(pages []client.PageFailure) []failureModel {
	failures := make([]failureModel, len(pages))
	for i, p := range pages {
		failures[i] = failureModel{p.Page, p.Reason}
	}
	return failures
}

func countsOf(of map[string]int) map[string]int64 {
	out := make(map[string]int64, len(of))
	for kind, n := range of {
		out[kind] = int64(n)
	}
	return out
}
