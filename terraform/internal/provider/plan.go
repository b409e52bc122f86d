// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package provider

import (
	"context"

	"github.com/hashicorp/terraform-plugin-framework/resource/schema/planmodifier"
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
