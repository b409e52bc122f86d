// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package evidencecmd

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"time"

	"github.com/hashicorp/vault/api"
)

const (
	repairReason = "repair after a restored snapshot"
	// rotationTries is how many rotations a repair waits for: one may run already, from
	// before the keys that came back were seen.
	rotationTries = 3
	// dueAtOnce bounds the tenants of one request that makes them due.
	dueAtOnce = 1000
)

var errPaused = errors.New("a rotation is paused")

// carryOut does what the plan says. What is refused is told, and the rest goes on.
func (r *repair) carryOut(ctx context.Context, p *plan) error {
	for _, b := range p.keys {
		if err := r.destroyKeys(ctx, b); err != nil {
			return err
		}
	}
	for _, id := range p.shredded {
		if err := r.deleteTenant(ctx, id); err != nil {
			return err
		}
	}
	for _, b := range p.keks {
		if err := r.leaveKEKs(ctx, b); err != nil {
			return err
		}
	}
	if p.kek != "" {
		if err := r.rotateKEK(ctx, p.kek); err != nil {
			return err
		}
	}
	for ids := range slices.Chunk(p.counts, dueAtOnce) {
		_, err := r.write(ctx, r.vault.mount+"/rotations", map[string]any{"tenants": ids, "reason": repairReason})
		if err != nil {
			return err
		}
		if err := r.say("due", "", "Due for a rotation: %d.", len(ids)); err != nil {
			return err
		}
	}
	return nil
}

// destroyKeys rotates a tenant off the keys that came back, and destroys these.
func (r *repair) destroyKeys(ctx context.Context, b backKeys) error {
	id := b.tenant.ID
	for n := range rotationTries {
		live, err := r.live(ctx, id)
		if err != nil {
			return err
		}
		if live == nil {
			return r.say("gone", id, "Tenant %s is deleted.", id)
		}
		now := live.back(b.tenant)
		if !now.rotate {
			return r.destroyVersions(ctx, id, now.versions)
		}
		if err := r.rotate(ctx, id, n); status(err) != 0 || errors.Is(err, errPaused) {
			return r.refuse(id, "the rotation", err)
		} else if err != nil {
			return err
		}
	}
	return r.refuse(id, "the destruction", errors.New("pages are still on the keys that came back"))
}

// rotate starts a rotation and waits for its end, or for the end of one that runs.
func (r *repair) rotate(ctx context.Context, id string, n int) error {
	secret, err := r.write(ctx, r.tenantPath(id)+"/dek/rotate", map[string]any{
		"reason": repairReason, "idempotency_key": fmt.Sprintf("%s/%d", r.id, n),
	})
	rotationID := ""
	switch {
	case status(err) == http.StatusConflict:
		if rotationID = r.running(ctx, id); rotationID == "" {
			return err
		}
	case err != nil:
		return err
	case secret != nil:
		rotationID, _ = secret.Data["rotation_id"].(string)
	}
	for {
		secret, err := r.vault.client.Logical().ReadWithContext(ctx, r.tenantPath(id)+"/dek/rotations/"+rotationID)
		if err != nil {
			return err
		}
		if secret == nil {
			return fmt.Errorf("rotation %s is not there any more", rotationID)
		}
		switch now, _ := secret.Data["status"].(string); now {
		case "completed", "rolled_back", "failed":
			return r.say("rotated", id, "Tenant %s: rotation %s is %s.", id, rotationID, now)
		case "paused":
			return errPaused
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(r.env.pause()):
		}
	}
}

// running returns the unfinished rotation of a tenant, empty if it has none.
func (r *repair) running(ctx context.Context, id string) string {
	secret, err := r.vault.client.Logical().ListWithContext(ctx, r.tenantPath(id)+"/dek/rotations")
	if err != nil || secret == nil {
		return ""
	}
	keys, _ := secret.Data["keys"].([]any)
	if len(keys) == 0 {
		return ""
	}
	newest, _ := keys[0].(string)
	return newest
}

func (r *repair) destroyVersions(ctx context.Context, id string, versions []int) error {
	for _, version := range versions {
		_, err := r.write(ctx, fmt.Sprintf("%s/dek/versions/%d/destroy", r.tenantPath(id), version), map[string]any{})
		if status(err) != 0 {
			err = r.refuse(id, fmt.Sprintf("the destruction of version %d", version), err)
		} else if err == nil {
			err = r.say("destroyed", id, "Tenant %s: version %d is destroyed.", id, version)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (r *repair) deleteTenant(ctx context.Context, id string) error {
	_, err := r.vault.client.Logical().DeleteWithContext(ctx, r.tenantPath(id))
	if status(err) != 0 {
		return r.refuse(id, "the deletion", err)
	}
	if err != nil {
		return err
	}
	return r.say("deleted", id, "Tenant %s is being deleted; its keys are destroyed when the deletion window ends.", id)
}

func (r *repair) write(ctx context.Context, path string, data map[string]any) (*api.Secret, error) {
	return r.vault.client.Logical().WriteWithContext(ctx, path, data)
}
