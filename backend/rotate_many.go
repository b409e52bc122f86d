// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package backend

import (
	"context"
	"strings"
	"time"

	"github.com/hashicorp/vault/sdk/framework"
	"github.com/hashicorp/vault/sdk/logical"

	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/store"
)

// maxTenantsNamed is how many tenants one request can make due.
const maxTenantsNamed = 10_000

// rotateMany makes tenants due now. It starts no rotation itself: the schedule
// does, within its budget, and goes on after a restart.
func (b *backend) rotateMany(ctx context.Context, _ *logical.Request, d *framework.FieldData) (*logical.Response, error) {
	reason, _, err := textField(d, "reason")
	if err != nil {
		return nil, err
	}
	all, _ := d.Get("all").(bool)
	named := d.Raw["tenants"] != nil
	if all == named {
		return nil, invalid("one of all=true and tenants must be given")
	}
	var scheduled int
	if all {
		scheduled, err = b.rotateEveryone(ctx, reason)
	} else {
		scheduled, err = b.rotateNamed(ctx, d.Raw["tenants"], reason)
	}
	if err != nil {
		return nil, err
	}
	b.Logger().Info("rotations asked for", "tenants", scheduled, "all", all)
	b.schedule.wakeNow()
	return &logical.Response{Data: map[string]any{"scheduled": scheduled}}, nil
}

// rotateEveryone takes one write, however many tenants there are: every key that
// is older than now is due.
func (b *backend) rotateEveryone(ctx context.Context, reason string) (int, error) {
	_, err := b.store.UpdateRotationSettings(ctx, func(s *store.RotationSettings) {
		s.RotateBefore, s.RotateReason = b.now(), reason
	})
	if err != nil {
		return 0, err
	}
	tenants, err := b.store.CountTenants(ctx)
	if err != nil {
		return 0, err
	}
	idle, err := b.store.CountHints(ctx, store.IdleNow, store.AnyDay)
	return max(tenants-idle, 0), err
}

func (b *backend) rotateNamed(ctx context.Context, raw any, reason string) (int, error) {
	ids, err := tenantList(raw)
	if err != nil {
		return 0, err
	}
	for _, id := range ids {
		if _, err := b.store.ActiveTenant(ctx, id); err != nil {
			return 0, err // one that is unknown refuses the whole, before anything is written
		}
	}
	now := b.now()
	for _, id := range ids {
		if err := b.makeDue(ctx, id, now, reason); err != nil {
			return 0, err
		}
	}
	return len(ids), nil
}

func (b *backend) makeDue(ctx context.Context, id string, now time.Time, reason string) error {
	defer b.store.Exclusive(id)()
	t, err := b.store.ActiveTenant(ctx, id)
	if err != nil {
		return err
	}
	next := t.Clone()
	next.RotateAfter, next.RotateReason, next.FailedInARow = now, reason, 0
	return b.store.Commit(ctx, t, next)
}

func tenantList(raw any) ([]string, error) {
	list, ok := raw.([]any)
	if text, isText := raw.(string); isText { // from the command line
		ok = true
		for id := range strings.SplitSeq(text, ",") {
			list = append(list, id)
		}
	}
	if !ok || len(list) == 0 || len(list) > maxTenantsNamed {
		return nil, invalid("tenants must be a list of 1 to %d tenant IDs", maxTenantsNamed)
	}
	var ids []string
	seen := map[string]bool{}
	for _, e := range list {
		id, _ := e.(string)
		if !uuidPattern.MatchString(id) {
			return nil, invalid("tenants must be a list of UUIDs in lower case")
		}
		if !seen[id] {
			seen[id] = true
			ids = append(ids, id)
		}
	}
	return ids, nil
}
