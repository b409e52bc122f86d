// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

// Package creation makes tenants. A tenant exists once its record is written,
// and its keys lie under its incarnation before that:
//
//  1. an intent in the write-ahead log, which names the incarnation;
//  2. the placement key and the first page key, wrapped;
//  3. the record, which is the commit point;
//  4. the intent is deleted.
//
// If it breaks off, the intent leads to the keys that no record knows: see
// [Engine.Recover].
package creation

import (
	"context"
	"errors"
	"fmt"

	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/keyring"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/keystore"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/tenant"
)

// Intent is what the write-ahead log holds of a creation: immutable, and never
// key material.
type Intent struct {
	ID          string `json:"-" mapstructure:"-"` // given by the log
	TenantID    string `json:"tenant_id" mapstructure:"tenant_id"`
	Incarnation string `json:"incarnation" mapstructure:"incarnation"`
}

// Intents is the write-ahead log.
type Intents interface {
	// Put adds an entry and returns its ID.
	Put(context.Context, Intent) (id string, err error)
	// Delete removes an entry; one that is not there is no error.
	Delete(ctx context.Context, id string) error
}

// Engine makes tenants.
type Engine struct {
	keys    *keystore.Store
	tenants *tenant.Store
	intents Intents
}

// NewEngine returns an Engine over the stores of one mount.
func NewEngine(k *keystore.Store, t *tenant.Store, intents Intents) *Engine {
	return &Engine{k, t, intents}
}

// Create makes t, which is new and has one version. The caller holds the tenant's
// lock exclusively and has found no record under it. An intent that is returned,
// with an error or without, is to be resumed.
func (e *Engine) Create(ctx context.Context, t *tenant.Record) (*Intent, error) {
	intent := &Intent{TenantID: t.ID, Incarnation: t.Incarnation}
	var err error
	if intent.ID, err = e.intents.Put(ctx, *intent); err != nil {
		return nil, fmt.Errorf("writing the intent: %w", err)
	}
	if err := e.keys.CreateKey(ctx, t.Owner().Binding(t.PlacementKeyID, "", keyring.PlacementKey)); err != nil {
		return intent, err
	}
	v := t.Keys.Active()
	if err := e.keys.CreateKey(ctx, t.Owner().Binding(v.KeyID, v.KeyType, keyring.PageKey)); err != nil {
		return intent, err
	}
	if err := e.tenants.Commit(ctx, nil, t); err != nil {
		return intent, err
	}
	if e.intents.Delete(ctx, intent.ID) != nil {
		return intent, nil //nolint:nilerr // the tenant is there; only the entry is left
	}
	return nil, nil
}

// Recover finishes a creation from what its intent says. If the tenant's record is
// of this incarnation, its keys are in use, and the intent goes. If there is no
// record, or one of another incarnation, nothing will use the keys: they go, then
// the intent.
//
// A Put of the record that failed may have taken effect behind a stale cache, and
// need the keys. So before they go the record is put again as it was read, or, if
// there was none, deleted. All under the tenant's exclusive lock: the intent may
// belong to a creation that has not yet written the record.
func (e *Engine) Recover(ctx context.Context, intent Intent) error {
	defer e.tenants.Exclusive(intent.TenantID)()
	t, err := e.tenants.Read(ctx, intent.TenantID)
	if err != nil && !errors.Is(err, tenant.ErrNotFound) {
		return err
	}
	if t == nil || t.Incarnation != intent.Incarnation {
		if err := e.tenants.Fence(ctx, t, intent.TenantID); err != nil {
			return err
		}
		if err := e.keys.DestroyAllKeys(ctx, intent.Incarnation); err != nil {
			return err
		}
	}
	return e.intents.Delete(ctx, intent.ID)
}
