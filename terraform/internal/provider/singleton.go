// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package provider

import (
	"context"
	"fmt"
	"strings"

	"github.com/hashicorp/terraform-plugin-framework/path"
	"github.com/hashicorp/terraform-plugin-framework/resource"
	"github.com/hashicorp/terraform-plugin-framework/resource/schema"
	"github.com/hashicorp/terraform-plugin-framework/resource/schema/planmodifier"
	"github.com/hashicorp/terraform-plugin-framework/resource/schema/stringplanmodifier"
)

// Settings of a mount are always there: a resource of them changes what there is, and
// destroying it leaves the mount as it is.

// mountAttribute names the mount that settings are of.
var mountAttribute = schema.StringAttribute{
	Computed:      true,
	Description:   "The mount that these settings are of: the provider's.",
	PlanModifiers: []planmodifier.String{stringplanmodifier.UseStateForUnknown()},
}

// importMount takes the name of the mount as the ID of its settings.
func (b *base) importMount(ctx context.Context, req resource.ImportStateRequest, resp *resource.ImportStateResponse) {
	if id := strings.Trim(req.ID, "/"); id != b.path {
		resp.Diagnostics.AddError("Another mount",
			fmt.Sprintf("The ID of these settings is their mount, and the provider is for the mount %s.", b.path))
		return
	}
	resp.Diagnostics.Append(resp.State.SetAttribute(ctx, path.Root("mount"), b.path)...)
}

// stays says that what is destroyed here remains on the mount.
func (b *base) stays(resp *resource.DeleteResponse, what string) {
	resp.Diagnostics.AddWarning("The settings stay as they are",
		fmt.Sprintf("A mount always has %s. Those of %s/ are no longer managed here, and were not changed.", what, b.path))
}
