// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package provider

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/hashicorp/terraform-plugin-framework/diag"
	"github.com/hashicorp/terraform-plugin-framework/path"
	"github.com/hashicorp/terraform-plugin-framework/resource"
	"github.com/hashicorp/terraform-plugin-framework/types"

	"github.com/vault-plugin-dek/vault-plugin-dek/client"
)

// deleting is the state of a tenant whose deletion window runs.
const deleting = "deleting"

// errDeleting says until when a tenant can be brought back, and how.
func (r *tenant) errDeleting(info *client.TenantInfo) error {
	until := "its window ends"
	if info.DeleteAfter != nil {
		until = info.DeleteAfter.UTC().Format(time.RFC3339)
	}
	return fmt.Errorf("it can be restored until %s: vault write -f %s/tenants/%s/restore, then tofu import ADDRESS %s. "+
		"Its ID is free again once it is shredded", until, r.path, info.ID, info.ID)
}

// ModifyPlan says at the plan what a destruction destroys, and refuses a deletion window
// that the engine would refuse: at the apply other resources could be gone by then.
func (r *tenant) ModifyPlan(ctx context.Context, req resource.ModifyPlanRequest, resp *resource.ModifyPlanResponse) {
	if r.mount == nil || req.State.Raw.IsNull() {
		return
	}
	var m tenantModel
	resp.Diagnostics.Append(req.State.Get(ctx, &m)...)
	if !req.Plan.Raw.IsNull() { // it stays, unless another ID makes it another tenant
		var planned types.String
		resp.Diagnostics.Append(req.Plan.GetAttribute(ctx, path.Root("tenant_id"), &planned)...)
		if planned.Equal(m.TenantID) {
			return
		}
	}
	if resp.Diagnostics.HasError() {
		return
	}
	window := "168h, or the mount's min_deletion_window if that is longer"
	if m.DeletionWindow.isKnown() {
		window = m.DeletionWindow.ValueString()
		r.checkWindow(ctx, m.DeletionWindow, &resp.Diagnostics)
	}
	resp.Diagnostics.AddWarning(fmt.Sprintf("Tenant %s is going to be shredded", m.TenantID.ValueString()),
		fmt.Sprintf("From the destruction on nobody reads or writes it. Its keys are destroyed after its deletion window (%s), and with them everything that is encrypted under them, "+
			"in Vault and elsewhere. Until then it can be restored.", window))
}

// checkWindow compares a window with the mount's least, if the token may read that.
func (r *tenant) checkWindow(ctx context.Context, window duration, diags *diag.Diagnostics) {
	config, err := r.Config(ctx)
	if err != nil {
		return // the policy of super_admin has no configuration; the engine checks in any case
	}
	length, err := window.length()
	if least := time.Duration(config.MinDeletionWindow); err == nil && length < least {
		diags.AddAttributeError(path.Root("deletion_window"), "The deletion window is too short",
			fmt.Sprintf("deletion_window is %s, and min_deletion_window of %s/ is %s. The engine refuses to delete a tenant sooner. "+
				"Apply a longer deletion_window first, or none.", window.ValueString(), r.path, durationOf(least).ValueString()))
	}
}

func (r *tenant) Delete(ctx context.Context, req resource.DeleteRequest, resp *resource.DeleteResponse) {
	ctx = warned(ctx, &resp.Diagnostics)
	var m tenantModel
	resp.Diagnostics.Append(req.State.Get(ctx, &m)...)
	if resp.Diagnostics.HasError() {
		return
	}
	id := m.TenantID.ValueString()
	t, err := r.Tenant(id)
	if err == nil {
		err = t.Delete(ctx, (*time.Duration)(m.DeletionWindow.sent()))
	}
	if err != nil && !errors.Is(err, client.ErrNotFound) {
		failed(&resp.Diagnostics, fmt.Sprintf("Tenant %s was not deleted", id), err)
		return
	}
	switch info, err := t.Read(ctx); {
	case err == nil && info.State == deleting:
		resp.Diagnostics.AddWarning(fmt.Sprintf("Tenant %s is being deleted", id), r.errDeleting(info).Error())
	case errors.Is(err, client.ErrNotFound):
		resp.Diagnostics.AddWarning(fmt.Sprintf("Tenant %s is shredded", id), "Its keys are destroyed. Nothing brings back what was encrypted under them.")
	}
}
