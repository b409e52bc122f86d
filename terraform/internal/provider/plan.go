// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package provider

import (
	"context"
	"fmt"
	"time"

	"github.com/hashicorp/terraform-plugin-framework/resource/schema/planmodifier"
	"github.com/hashicorp/terraform-plugin-framework/schema/validator"
	"github.com/hashicorp/terraform-plugin-framework/types/basetypes"
)

// keepSpelling plans no change where the configuration spells the length of the state in
// another way. Without it the plan would have a change that changes nothing.
type keepSpelling struct{ interval bool }

func (keepSpelling) Description(context.Context) string {
	return "Another spelling of the same duration is no change."
}

func (m keepSpelling) MarkdownDescription(ctx context.Context) string { return m.Description(ctx) }

func (m keepSpelling) PlanModifyString(_ context.Context, req planmodifier.StringRequest, resp *planmodifier.StringResponse) {
	was, planned := m.of(req.StateValue), m.of(req.PlanValue)
	if was.isKnown() && planned.isKnown() && was.sameLength(planned) {
		resp.PlanValue = req.StateValue
	}
}

func (m keepSpelling) of(v basetypes.StringValue) duration { return duration{v, m.interval} }

// atMost refuses longer durations than the engine takes, where it would say so late.
type atMost time.Duration

func (v atMost) Description(context.Context) string {
	return fmt.Sprintf("It must be from 0 to %dh.", time.Duration(v)/time.Hour)
}

func (v atMost) MarkdownDescription(ctx context.Context) string { return v.Description(ctx) }

func (v atMost) ValidateString(ctx context.Context, req validator.StringRequest, resp *validator.StringResponse) {
	d := duration{req.ConfigValue, false}
	if !d.isKnown() {
		return
	}
	if length, err := d.length(); err == nil && length > time.Duration(v) {
		resp.Diagnostics.AddAttributeError(req.Path, "The duration is too long", v.Description(ctx))
	}
}
