// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package provider

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/hashicorp/terraform-plugin-framework/resource"

	"github.com/vault-plugin-dek/vault-plugin-dek/client"
)

// changedHere is the reason that rotations and moves have which a plan asked for.
const changedHere = "changed in the configuration (terraform-provider-dek)"

// A move of a tenant's keys rewrites one small entry for each of its keys. What takes
// longer waits for a key provider, and goes on without the provider of this package.
const (
	moveLimit = 10 * time.Minute
	moveTick  = 500 * time.Millisecond
)

func (r *tenant) Update(ctx context.Context, req resource.UpdateRequest, resp *resource.UpdateResponse) {
	ctx = warned(ctx, &resp.Diagnostics)
	var plan, was tenantModel
	resp.Diagnostics.Append(req.Plan.Get(ctx, &plan)...)
	resp.Diagnostics.Append(req.State.Get(ctx, &was)...)
	if resp.Diagnostics.HasError() {
		return
	}
	info, err := r.update(ctx, &plan, &was)
	if info != nil { // what was done before an error is kept
		now := plan
		now.take(info)
		resp.Diagnostics.Append(resp.State.Set(ctx, now)...)
	}
	if err != nil {
		failed(&resp.Diagnostics, fmt.Sprintf("Tenant %s was not changed as planned", plan.TenantID.ValueString()), err)
	}
}

// update brings a tenant from was to plan. It returns the tenant beside an error, if that
// came after a first change.
func (r *tenant) update(ctx context.Context, plan, was *tenantModel) (*client.TenantInfo, error) {
	t, err := r.Tenant(plan.TenantID.ValueString())
	if err != nil {
		return nil, err
	}
	s := plan.change()
	s.MustExist = true
	info, err := t.Write(ctx, s)
	if err != nil {
		return nil, err
	}
	if to := plan.KeyProvider.ValueString(); to != was.KeyProvider.ValueString() {
		if err = r.move(ctx, t, to); err != nil {
			return r.asItIs(ctx, t, info), err
		}
	}
	if to := plan.KeyType.ValueString(); to != "" && to != was.KeyType.ValueString() {
		if _, err = t.Rotate(ctx, client.RotationRequest{KeyType: to, Reason: changedHere}); err != nil {
			return r.asItIs(ctx, t, info), fmt.Errorf("key_type changes by a rotation: %w", err)
		}
	}
	return t.Read(ctx)
}

// asItIs reads the tenant once more; if that fails it is what it last was.
func (r *tenant) asItIs(ctx context.Context, t *client.Tenant, last *client.TenantInfo) *client.TenantInfo {
	if info, err := t.Read(ctx); err == nil {
		return info
	}
	return last
}

// errMoving reports a move that has not ended in time.
var errMoving = errors.New("key_provider: the tenant's keys are still being moved; that goes on by itself, and the next plan shows where they are")

// move moves the tenant's keys under another key provider and waits for the end: until
// then both providers are in use, and neither can be destroyed.
func (r *tenant) move(ctx context.Context, t *client.Tenant, to string) error {
	if _, err := t.MoveKEK(ctx, to, changedHere); err != nil {
		return fmt.Errorf("key_provider: %w", err)
	}
	ctx, cancel := context.WithTimeout(ctx, moveLimit)
	defer cancel()
	tick := time.NewTicker(moveTick)
	defer tick.Stop()
	for {
		kek, err := t.KEK(ctx)
		switch {
		case err != nil:
			return fmt.Errorf("key_provider: %w", err)
		case kek.Status == "failed":
			return errors.New("key_provider: moving the tenant's keys has failed: read tenants/" + t.ID() + "/kek")
		case kek.Status != "in_progress":
			return nil
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return errMoving
		}
	}
}
