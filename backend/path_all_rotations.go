// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package backend

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/hashicorp/vault/sdk/framework"
	"github.com/hashicorp/vault/sdk/logical"

	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/keyring"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/rotation"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/settings"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/tenant"
)

// maxTenantsNamed is how many tenants one request can make due.
const maxTenantsNamed = 10_000

// allRotationsPath is that of the rotations of all tenants together.
func (b *backend) allRotationsPath() *framework.Path {
	return &framework.Path{
		Pattern: "rotations/?$",
		Fields: map[string]*framework.FieldSchema{
			"after": afterField, "limit": limitField,
			"all":     {Type: framework.TypeBool, Description: "Rotate every tenant."},
			"tenants": {Type: framework.TypeSlice, Description: "Rotate these: up to 10,000 tenant IDs."},
			"reason":  {Type: framework.TypeString, Description: "Why, for the history."},
		},
		Operations: map[logical.Operation]framework.OperationHandler{
			logical.ListOperation: b.on(b.listUnfinished, "list unfinished-rotations", "List the unfinished rotations of all tenants.", listed),
			logical.UpdateOperation: b.on(b.rotateMany, "rotate keys", "Make all tenants, or some, due now.",
				ok("How many.", map[string]*framework.FieldSchema{"scheduled": described(framework.TypeInt, "How many tenants are due now.")})),
		},
		HelpSynopsis: "The unfinished rotations of all tenants; rotate many.",
		HelpDescription: "Listed, the keys are <tenant_id>/<rotation_id>. Written to, with all or tenants, it makes those " +
			"due now, and the schedule rotates them within its budget (max_concurrent_rotations), without jitter: " +
			"the answer to a leaked key. Tenants whose rotation is paused are passed over.",
	}
}

func (b *backend) listUnfinished(ctx context.Context, _ *logical.Request, d *framework.FieldData) (*logical.Response, error) {
	p, err := pageField(d)
	if err != nil {
		return nil, err
	}
	keys, err := b.unfinished(ctx)
	if err != nil {
		return nil, err
	}
	return logical.ListResponse(p.ofSorted(keys)), nil
}

// unfinished lists the unfinished rotations as <tenant_id>/<rotation_id>.
func (b *backend) unfinished(ctx context.Context) ([]string, error) {
	intents, err := b.intents(ctx)
	if err != nil {
		return nil, err
	}
	var keys []string
	for _, i := range intents {
		unfinished, err := b.isUnfinished(ctx, i)
		if err != nil {
			return nil, err
		}
		if unfinished {
			keys = append(keys, i.TenantID+"/"+i.RotationID)
		}
	}
	slices.Sort(keys)
	return keys, nil
}

// isUnfinished leaves out the entries of rotations that are about to start, or
// that never did.
func (b *backend) isUnfinished(ctx context.Context, i rotation.Intent) (bool, error) {
	t, err := b.tenants.Read(ctx, i.TenantID)
	if errors.Is(err, tenant.ErrNotFound) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	return t.Rotation != nil && t.Rotation.ID == i.RotationID, nil
}

// rotateMany makes tenants due now. It starts no rotation itself: the schedule
// does, within its budget, and goes on after a restart.
func (b *backend) rotateMany(ctx context.Context, req *logical.Request, d *framework.FieldData) (*logical.Response, error) {
	reason, _, err := textField(d, "reason")
	if err != nil {
		return nil, err
	}
	all, _, err := boolField(d, "all")
	if err != nil {
		return nil, err
	}
	named := d.Raw["tenants"] != nil
	if all == named {
		return nil, invalid("one of all=true and tenants must be given")
	}
	// Vault sends a request again, with the same ID, when the plugin crashed.
	wanted := demand{at: b.now(), request: "rotations/" + req.ID, reason: reason}
	var scheduled int
	if all {
		scheduled, err = b.rotateEveryone(ctx, wanted)
	} else {
		scheduled, err = b.rotateNamed(ctx, d.Raw["tenants"], wanted)
	}
	if err != nil {
		return nil, err
	}
	b.Logger().Info("rotations asked for", "tenants", scheduled, "all", all, "request_id", req.ID)
	b.schedule.wakeNow()
	return &logical.Response{Data: map[string]any{"scheduled": scheduled}}, nil
}

// demand is what a request for rotations says of them.
type demand struct {
	at              time.Time
	request, reason string
}

// rotateEveryone takes one write, however many tenants there are: every key that
// is older than now is due. It returns how many there are whom the schedule does
// not pass over.
func (b *backend) rotateEveryone(ctx context.Context, wanted demand) (int, error) {
	_, err := b.settings.UpdateRotation(ctx, func(s *settings.Rotation) {
		if s.RotateRequest != wanted.request {
			s.RotateBefore, s.RotateReason, s.RotateRequest = wanted.at, wanted.reason, wanted.request
		}
	})
	if err != nil {
		return 0, err
	}
	tenants, err := b.tenants.Count(ctx)
	if err != nil {
		return 0, err
	}
	idle, err := b.tenants.CountHints(ctx, tenant.IdleNow, tenant.AnyDay)
	return max(tenants-idle, 0), err
}

// rotateNamed makes some tenants due and returns how many of them the schedule
// does not pass over.
func (b *backend) rotateNamed(ctx context.Context, raw any, wanted demand) (scheduled int, err error) {
	ids, err := tenantList(raw)
	if err != nil {
		return 0, err
	}
	for _, id := range ids {
		// One that is unknown refuses the whole, before anything is written.
		_, err := b.tenants.Active(ctx, id)
		if errors.Is(err, tenant.ErrNotFound) || errors.Is(err, tenant.ErrDeleting) {
			err = &refusal{http.StatusNotFound, fmt.Sprintf("tenants has %s: %s", id, err)}
		}
		if err != nil {
			return 0, err
		}
	}
	for _, id := range ids {
		paused, err := b.makeDue(ctx, id, wanted)
		if err != nil {
			return 0, err
		}
		if !paused {
			scheduled++
		}
	}
	return scheduled, nil
}

// makeDue makes a tenant due, unless the same request has. One that is paused is
// rotated when it no longer is.
func (b *backend) makeDue(ctx context.Context, id string, wanted demand) (paused bool, err error) {
	t, err := b.tenants.Update(ctx, id, func(next *tenant.Record) error {
		if err := next.Usable(); err != nil {
			return err
		}
		served := next.Keys.Match(func(v *keyring.Version) bool { return v.IdempotencyKey == wanted.request })
		if next.RotateRequest == wanted.request || served != nil {
			return tenant.ErrUnchanged
		}
		next.RotateAfter, next.RotateReason, next.RotateRequest = wanted.at, wanted.reason, wanted.request
		next.FailedInARow = 0
		return nil
	})
	if err != nil {
		return false, err
	}
	return t.RotationPaused, nil
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
	for i, e := range list {
		id, _ := e.(string)
		if !uuidPattern.MatchString(id) {
			return nil, invalid("tenants must be a list of UUIDs in lower case: element %d is not", i)
		}
		if !seen[id] {
			seen[id] = true
			ids = append(ids, id)
		}
	}
	return ids, nil
}
