// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package provider

import (
	"context"
	"fmt"
	"time"

	"github.com/hashicorp/terraform-plugin-framework/datasource"
	"github.com/hashicorp/terraform-plugin-framework/datasource/schema"
	"github.com/hashicorp/terraform-plugin-framework/types"

	"github.com/vault-plugin-dek/vault-plugin-dek/client"
)

// source is what all data sources have in common.
type source struct{ *mount }

func (s *source) Configure(_ context.Context, req datasource.ConfigureRequest, resp *datasource.ConfigureResponse) {
	s.mount = given(req.ProviderData, &resp.Diagnostics)
}

// status is status: how the fleet is doing.
type status struct{ source }

func newStatus() datasource.DataSource { return new(status) }

type statusModel struct {
	Tenants          int64             `tfsdk:"tenants"`
	IndexComplete    bool              `tfsdk:"index_complete"`
	IndexRead        int64             `tfsdk:"index_read"`
	RotationsActive  int64             `tfsdk:"rotations_active"`
	RotationsFailed  int64             `tfsdk:"rotations_failed"`
	FailedTenants    []string          `tfsdk:"failed_tenants"`
	Overdue          int64             `tfsdk:"overdue"`
	OverdueTenants   []string          `tfsdk:"overdue_tenants"`
	Paused           int64             `tfsdk:"paused"`
	PausedTenants    []string          `tfsdk:"paused_tenants"`
	PausedOverdue    int64             `tfsdk:"paused_overdue"`
	Blocked          int64             `tfsdk:"blocked"`
	BlockedTenants   map[string]string `tfsdk:"blocked_tenants"`
	DueWithin7Days   int64             `tfsdk:"due_within_7d"`
	OldestKeyAge     int64             `tfsdk:"oldest_key_age"`
	OldestKeyTenant  string            `tfsdk:"oldest_key_tenant"`
	KEKAge           types.Int64       `tfsdk:"kek_age"`
	KEKOverdue       bool              `tfsdk:"kek_overdue"`
	Providers        map[string]string `tfsdk:"providers"`
	EvidenceSize     int64             `tfsdk:"evidence_size"`
	EvidencePending  int64             `tfsdk:"evidence_pending"`
	DamagedEntries   map[string]int64  `tfsdk:"damaged_entries"`
	SchedulerLastRun types.String      `tfsdk:"scheduler_last_run"`
	AsOf             string            `tfsdk:"as_of"`
}

func (*status) Metadata(_ context.Context, _ datasource.MetadataRequest, resp *datasource.MetadataResponse) {
	resp.TypeName = "dek_status"
}

func (*status) Schema(_ context.Context, _ datasource.SchemaRequest, resp *datasource.SchemaResponse) {
	resp.Schema = schema.Schema{
		Description: "How the fleet of a mount is doing. Lists have the first 100. Until index_complete, counts are lower bounds.",
		Attributes: map[string]schema.Attribute{
			"tenants":            number("How many tenants there are."),
			"index_complete":     yesNo("Whether every record has been read since the engine started."),
			"index_read":         number("Records read since then."),
			"rotations_active":   number("Unfinished rotations."),
			"rotations_failed":   number("Tenants whose latest rotation failed."),
			"failed_tenants":     texts("Those tenants."),
			"overdue":            number("Tenants that are overdue; paused ones are not counted."),
			"overdue_tenants":    texts("Those tenants, the most overdue first."),
			"paused":             number("Tenants that the schedule passes over."),
			"paused_tenants":     texts("Those tenants."),
			"paused_overdue":     number("Paused tenants that would be overdue."),
			"blocked":            number("Tenants that are due and cannot start."),
			"blocked_tenants":    textMap("The reason, by tenant."),
			"due_within_7d":      number("Tenants that are due within 7 days."),
			"oldest_key_age":     number("The age of the oldest key, in seconds."),
			"oldest_key_tenant":  text("Whose that is; empty: there is none."),
			"kek_age":            number("The age of the key-encryption key, in seconds; null: not known."),
			"kek_overdue":        yesNo("Whether its rotation is overdue."),
			"providers":          textMap("The state of each key provider: ok, unavailable or denied."),
			"evidence_size":      number("Entries of the evidence log."),
			"evidence_pending":   number("Events that wait to become one."),
			"damaged_entries":    counts("Entries of storage that cannot be read, by kind; empty: there are none."),
			"scheduler_last_run": text("When the schedule last ran; null: not yet."),
			"as_of":              text("When this was so."),
		},
	}
}

func number(description string) schema.Int64Attribute {
	return schema.Int64Attribute{Computed: true, Description: description}
}

func yesNo(description string) schema.BoolAttribute {
	return schema.BoolAttribute{Computed: true, Description: description}
}

func text(description string) schema.StringAttribute {
	return schema.StringAttribute{Computed: true, Description: description}
}

func texts(description string) schema.ListAttribute {
	return schema.ListAttribute{Computed: true, ElementType: types.StringType, Description: description}
}

func counts(description string) schema.MapAttribute {
	return schema.MapAttribute{Computed: true, ElementType: types.Int64Type, Description: description}
}

func textMap(description string) schema.MapAttribute {
	return schema.MapAttribute{Computed: true, ElementType: types.StringType, Description: description}
}

// timeOf is a time, null if there is none.
func timeOf(t *time.Time) types.String {
	if t == nil {
		return types.StringNull()
	}
	return types.StringValue(t.UTC().Format(time.RFC3339Nano))
}

func (d *status) Read(ctx context.Context, _ datasource.ReadRequest, resp *datasource.ReadResponse) {
	s, err := d.Status(ctx)
	if err != nil {
		failed(&resp.Diagnostics, fmt.Sprintf("The status of %s/ could not be read", d.path), err)
		return
	}
	resp.Diagnostics.Append(resp.State.Set(ctx, statusOf(s))...)
}

func statusOf(s *client.Status) statusModel {
	m := statusModel{
		Tenants: int64(s.Tenants), IndexComplete: s.IndexComplete, IndexRead: int64(s.IndexRead),
		RotationsActive: int64(s.RotationsActive), RotationsFailed: int64(s.RotationsFailed), FailedTenants: s.FailedTenants,
		Overdue: int64(s.Overdue), OverdueTenants: s.OverdueTenants,
		Paused: int64(s.Paused), PausedTenants: s.PausedTenants, PausedOverdue: int64(s.PausedOverdue),
		Blocked: int64(s.Blocked), BlockedTenants: s.BlockedTenants, DueWithin7Days: int64(s.DueWithin7Days),
		OldestKeyAge: seconds(s.OldestKeyAge), OldestKeyTenant: s.OldestKeyTenant, KEKOverdue: s.KEKOverdue,
		Providers: s.Providers, EvidenceSize: int64(s.EvidenceSize),
		EvidencePending: int64(s.EvidencePending), DamagedEntries: countsOf(s.DamagedEntries), SchedulerLastRun: timeOf(s.SchedulerLastRun),
		AsOf: timeOf(&s.AsOf).ValueString(),
	}
	if s.KEKAge != nil {
		m.KEKAge = types.Int64Value(seconds(*s.KEKAge))
	}
	return m
}

func seconds(d client.Duration) int64 { return int64(time.Duration(d) / time.Second) }
