// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

// Package kek serves the key-encryption keys: of the mount, kek and kek/rotate, and of
// tenants, tenants/<tenant_id>/kek and tenants/<tenant_id>/kek/rotate.
package kek

import (
	"context"
	"time"

	"github.com/hashicorp/vault/sdk/framework"
	"github.com/hashicorp/vault/sdk/logical"

	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/api"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/kekrotation"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/keystore"
)

// Rooms has what the paths need. The engine is asked for when a request comes: it is made
// after the paths are.
type Rooms struct {
	*api.Operations

	Engine func() *kekrotation.Engine
	Now    func() time.Time
}

// answerFields describe a KEK and its latest rotation.
var answerFields = map[string]*framework.FieldSchema{
	"kek_id":          api.Described(framework.TypeString, "The KEK that wraps keys."),
	"created_at":      api.Described(framework.TypeTime, "When it was made; null: not known."),
	"age":             api.Described(framework.TypeInt, "Seconds since then; null: not known."),
	"older_kek_ids":   api.Described(framework.TypeStringSlice, "Other KEKs that are still in storage."),
	"provider":        api.Described(framework.TypeString, "The key provider that it is under; empty: it lies in Vault's storage."),
	"state":           api.Described(framework.TypeString, "What the latest call to that provider came to: ok, unavailable or denied; empty: there is none."),
	"lease_until":     api.Described(framework.TypeTime, "How long it may be used without another call; null: without end, or it is not open."),
	"waiting_for":     api.Described(framework.TypeString, "The key provider that an unfinished rotation waits for; null: none."),
	"status":          api.Described(framework.TypeString, "Of the latest rotation: not_rotated (there was none), in_progress, completed or failed."),
	"previous_kek_id": api.Described(framework.TypeString, "The KEK that the latest rotation left; empty: there was none."),
	"reason":          api.Described(framework.TypeString, "Why, as the request had it."),
	"started_at":      api.Described(framework.TypeTime, "When the latest rotation started; null: there was none."),
	"updated_at":      api.Described(framework.TypeTime, "When the figures were taken; null: there are none."),
	"completed_at":    api.Described(framework.TypeTime, "When it ended; null: it has not."),
	"percent":         api.Described(framework.TypeFloat, "How much of the tenants has been gone through, 0 to 100."),
	"tenants":         api.Described(framework.TypeInt, "How many tenants were looked at."),
	"keys":            api.Described(framework.TypeInt, "How many of their keys are on the KEK, moved to it or made under it."),
	"keys_failed":     api.Described(framework.TypeInt, "How many keys could not be moved."),
	"failures":        api.Described(framework.TypeSlice, "The first 100 of them: tenant, key ID and reason."),
	"initiated_by":    api.Described(framework.TypeMap, "Who asked: id, name, email; system: kek_rotation_interval had passed."),
}

// Fields of a request for a rotation.
var (
	reasonField = &framework.FieldSchema{Type: framework.TypeString, Description: "Why, for those who read it later."}
	idemField   = &framework.FieldSchema{
		Type:        framework.TypeString,
		Description: "A request with the key of the latest rotation gets that rotation back. Default: Vault's request ID.",
	}
)

// Paths returns the paths.
func (r *Rooms) Paths() []*framework.Path { return append(r.tenantPaths(), r.mountPaths()...) }

func (r *Rooms) mountPaths() []*framework.Path {
	answer := api.OK("The key-encryption key.", answerFields)
	return []*framework.Path{
		{
			Pattern: "kek$",
			Operations: map[logical.Operation]framework.OperationHandler{
				logical.ReadOperation: r.On(r.readMount, "read key-encryption-key", "Read which key-encryption key is in use, and how its rotation goes.", answer),
			},
			HelpSynopsis: "The key-encryption key (KEK) of this mount.",
			HelpDescription: "It wraps the keys of all tenants. It is made with the first tenant: until then there is none (404). " +
				"What is shown is never the key itself.",
		},
		{
			Pattern: "kek/rotate$",
			Fields: map[string]*framework.FieldSchema{
				"reason": reasonField,
				"provider": {
					Type:        framework.TypeString,
					Description: "The key provider to put the KEK under, one that has mount=true. Empty: Vault's storage. Default: where it is.",
				},
				"idempotency_key": idemField,
			},
			Operations: map[logical.Operation]framework.OperationHandler{
				logical.UpdateOperation: r.On(r.rotateMount, "rotate key-encryption-key", "Start a rotation of the key-encryption key.", answer),
			},
			HelpSynopsis: "Start a rotation of the key-encryption key.",
			HelpDescription: "Answers at once; the keys of all tenants are then wrapped anew in the background, while everything " +
				"goes on, and the old KEK is destroyed. Nothing that tenants have is encrypted anew: for that, rotate their keys. " +
				"While a rotation is unfinished the answer is 409 and names the KEK that it goes to. A key that does not open " +
				"is listed in failures; the rotation then ends failed, the old KEK is kept, and the next rotation takes what was left. " +
				"With provider the new KEK is under that key provider, or in Vault's storage again. A provider that denies is 424, " +
				"one that is unavailable 503, and nothing has changed.",
		},
	}
}

func (r *Rooms) readMount(ctx context.Context, _ *logical.Request, _ *framework.FieldData) (*logical.Response, error) {
	v, err := r.Engine().View(ctx)
	if err != nil {
		return nil, err
	}
	return r.response(ctx, v), nil
}

// requestOf is what a request asks for.
func (r *Rooms) requestOf(req *logical.Request, d *framework.FieldData) (want kekrotation.Request, err error) {
	if want.Reason, err = api.Reason(d); err != nil {
		return want, err
	}
	if want.IdempotencyKey, _, err = api.TextField(d, "idempotency_key"); err != nil {
		return want, err
	}
	under, named, err := api.TextField(d, "provider")
	if err != nil {
		return want, err
	}
	if named {
		want.Provider = &under
	}
	if want.IdempotencyKey == "" {
		want.IdempotencyKey = req.ID
	}
	want.InitiatedBy = r.Caller(req)
	return want, nil
}

func (r *Rooms) rotateMount(ctx context.Context, req *logical.Request, d *framework.FieldData) (*logical.Response, error) {
	want, err := r.requestOf(req, d)
	if err != nil {
		return nil, err
	}
	kek, started, err := r.Engine().Start(ctx, want)
	if err != nil {
		return nil, err
	}
	if started {
		r.Log().Info("rotation of the key-encryption key started", "kek_id", kek.KEKID, "request_id", req.ID)
	}
	return r.readMount(ctx, req, d)
}

func (r *Rooms) response(ctx context.Context, v kekrotation.View) *logical.Response {
	var age any
	if !v.CreatedAt.IsZero() {
		age = int64(r.Now().Sub(v.CreatedAt).Seconds())
	}
	last := v.Rotation
	if last == nil {
		last = new(keystore.KEKRotation)
	}
	failures := make([]map[string]any, 0, len(v.Failures))
	for _, f := range v.Failures {
		failures = append(failures, map[string]any{"tenant_id": f.TenantID, "key_id": f.KeyID, "reason": f.Reason})
	}
	return &logical.Response{Data: map[string]any{
		"kek_id":          v.KEKID,
		"created_at":      api.Time(v.CreatedAt),
		"age":             age,
		"older_kek_ids":   append([]string{}, v.Older...),
		"provider":        v.Provider,
		"state":           v.ProviderState,
		"lease_until":     api.Time(v.LeaseUntil),
		"waiting_for":     api.TextOrNull(v.WaitingFor),
		"status":          v.Status,
		"previous_kek_id": last.From,
		"reason":          last.Reason,
		"started_at":      api.Time(last.StartedAt),
		"updated_at":      api.Time(v.Progress.At),
		"completed_at":    api.Time(last.EndedAt),
		"percent":         v.Progress.Percent,
		"tenants":         v.Progress.Tenants,
		"keys":            v.Progress.Keys,
		"keys_failed":     v.Progress.Failed,
		"failures":        failures,
		"initiated_by":    r.Person(ctx, last.InitiatedBy),
	}}
}
