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

	"github.com/vault-plugin-dek/vault-plugin-dek/evidence"
	"github.com/vault-plugin-dek/vault-plugin-dek/evidence/history"
)

// backKEKs are the key-encryption keys of a tenant's own that came back.
type backKEKs struct {
	tenant *history.Tenant
	ids    []string
}

// liveKEK is a key-encryption key as the mount has it now.
type liveKEK struct {
	ID     string   `json:"kek_id"`
	Older  []string `json:"older_kek_ids"` // of a tenant: others of its own that are in storage
	Status string   `json:"status"`        // of the latest move to it
}

// liveKEK reads the key-encryption key that wraps a tenant's keys, the mount's without a
// tenant; nil if there is none.
func (r *repair) liveKEK(ctx context.Context, tenantID string) (*liveKEK, error) {
	path := r.vault.mount + "/kek"
	if tenantID != "" {
		path = r.tenantPath(tenantID) + "/kek"
	}
	return readAt[liveKEK](ctx, r, path)
}

// ownKEKs returns the key-encryption keys of a tenant's own that the kept log says were
// destroyed, and that are there.
func (r *repair) ownKEKs(ctx context.Context, t *history.Tenant) (backKEKs, error) {
	b := backKEKs{tenant: t}
	was := map[string]bool{}
	for _, d := range t.Other {
		if d.Which == evidence.WhichKEK {
			was[d.KeyID] = true
		}
	}
	if len(was) == 0 {
		return b, nil // most tenants never had one
	}
	now, err := r.liveKEK(ctx, t.ID)
	if err != nil || now == nil {
		return b, err
	}
	for _, id := range append([]string{now.ID}, now.Older...) {
		if was[id] {
			b.ids = append(b.ids, id)
		}
	}
	slices.Sort(b.ids)
	return b, nil
}

// leaveKEKs moves the keys of a tenant off the key-encryption keys of its own that came
// back, to a new one where they are: the end of the move destroys those.
func (r *repair) leaveKEKs(ctx context.Context, b backKEKs) error {
	id := b.tenant.ID
	for n := range rotationTries {
		now, err := r.ownKEKs(ctx, b.tenant)
		if err != nil {
			return err
		}
		if len(now.ids) == 0 {
			return r.say("kek", id, "Tenant %s: the key-encryption keys that came back are destroyed.", id)
		}
		_, err = r.write(ctx, r.tenantPath(id)+"/kek/rotate", map[string]any{
			"reason": repairReason, "idempotency_key": fmt.Sprintf("%s/kek/%d", r.id, n),
		})
		if status(err) != 0 && status(err) != http.StatusConflict { // 409: a move goes on, from before
			return r.refuse(id, "the rotation of the key-encryption key", err)
		}
		if err != nil && status(err) == 0 {
			return err
		}
		if err := r.moved(ctx, id); err != nil {
			return err
		}
	}
	return r.refuse(id, "the destruction of key-encryption keys", errors.New("keys are still on those that came back"))
}

// moved waits until no move of a tenant's keys is under way.
func (r *repair) moved(ctx context.Context, id string) error {
	for {
		now, err := r.liveKEK(ctx, id)
		if err != nil || now == nil || now.Status != "in_progress" {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(r.env.pause()):
		}
	}
}

// rotateKEK starts a rotation of the mount's key-encryption key, which goes on by itself.
func (r *repair) rotateKEK(ctx context.Context, id string) error {
	_, err := r.write(ctx, r.vault.mount+"/kek/rotate", map[string]any{"reason": repairReason, "idempotency_key": r.id})
	if status(err) != 0 {
		r.refused = true
		return r.say("refused", "", "Refused: the rotation of the key-encryption key: %s", word(err))
	}
	if err != nil {
		return err
	}
	return r.say("kek", "", "A rotation of the key-encryption key has begun, at the end of which %s is destroyed.", id)
}
