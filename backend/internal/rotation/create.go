// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package rotation

import (
	"context"
	"errors"
	"fmt"

	"golang.org/x/sync/errgroup"

	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/intents"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/keyring"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/keystore"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/tenant"
)

// What writing a tenant reports.
var (
	// ErrBeingDeleted reports a tenant whose ID is still taken.
	ErrBeingDeleted = errors.New("tenant is being deleted: restore it, or wait until it is gone")
	// ErrKeyTypeFixed reports a key type that is not that of the active version.
	ErrKeyTypeFixed = errors.New("key_type of an existing tenant changes by a rotation: write it to dek/rotate")
	// ErrProviderFixed reports a key provider that the tenant's KEK is not under.
	ErrProviderFixed = errors.New("key_provider of an existing tenant changes by a move: write provider to its kek/rotate")
)

// TenantWrite creates a tenant, or changes the settings of one that there is.
type TenantWrite struct {
	TenantID  string
	KeyType   keyring.KeyType // of the first key, empty for the default; it changes nothing
	MustExist bool            // create nothing
	// Provider is the one that a KEK of its own is under from the start; it changes nothing.
	Provider      string
	ProviderNamed bool
	Change        func(*tenant.Record)
}

// WriteTenant creates a tenant with version 1 of its key, or changes its settings. It
// fails with [ErrBeingDeleted], [ErrKeyTypeFixed], [ErrProviderFixed], [tenant.ErrNotFound],
// [keystore.ErrTenantProvider] or an error of the provider.
func (e *Engine) WriteTenant(ctx context.Context, w TenantWrite) (t *tenant.Record, created bool, err error) {
	err = e.keys.WithOwnKEK(ctx, func(ready *keystore.PreparedKEK) error {
		t, created, err = e.writeTenant(ctx, w, ready)
		return err
	})
	return t, created, err
}

func (e *Engine) writeTenant(ctx context.Context, w TenantWrite, ready *keystore.PreparedKEK) (t *tenant.Record, created bool, err error) {
	var intent *intents.Intent
	err = e.tenants.Hold(ctx, w.TenantID, func(h *tenant.Held) error {
		switch t = h.Record(); {
		case t == nil && w.MustExist:
			return tenant.ErrNotFound
		case t == nil:
			t, intent, err = e.create(ctx, h, w, ready)
			created = err == nil
			return err
		case t.State != tenant.Active:
			return ErrBeingDeleted
		case w.KeyType != "" && w.KeyType != t.Keys.Active().KeyType:
			return ErrKeyTypeFixed
		case w.ProviderNamed && w.Provider != t.KeyProvider():
			return ErrProviderFixed
		}
		t, err = h.Update(ctx, func(next *tenant.Record) error {
			w.Change(next)
			return e.logSettings(ctx, t, next)
		})
		return err
	})
	if intent != nil {
		e.Drive(*intent)
	}
	return t, created, err
}

// create makes a tenant under a new incarnation. Its record is its commit point,
// and its keys lie under its incarnation before that:
//
//  1. an intent in the write-ahead log, which names the incarnation;
//  2. its own KEK, if it is to have one, the placement key and the first page key, wrapped;
//  3. the record, which is the commit point;
//  4. the intent is deleted.
//
// An intent that is returned, with an error or without, is to be driven.
func (e *Engine) create(ctx context.Context, h *tenant.Held, w TenantWrite, ready *keystore.PreparedKEK) (*tenant.Record, *intents.Intent, error) {
	settings, err := e.settings.Rotation(ctx)
	if err != nil {
		return nil, nil, err
	}
	t, err := tenant.New(w.TenantID, w.KeyType, settings.Campaign.Number, e.now())
	if err != nil {
		return nil, nil, err
	}
	if w.Provider != "" && ready == nil {
		_, err := e.keys.StoreOwnKEK(ctx, t.Owner(), keystore.KEKRecord{}, w.Provider, nil)
		return nil, nil, err // the provider is called first, without a lock
	}
	if ready != nil {
		t.Incarnation = ready.Owner.Incarnation
	}
	w.Change(t)
	if err := e.logCreation(ctx, t); err != nil {
		return nil, nil, err
	}
	intent := &intents.Intent{TenantID: t.ID, Incarnation: t.Incarnation}
	if intent.ID, err = e.intents.Put(ctx, *intent); err != nil {
		return nil, nil, fmt.Errorf("writing the intent: %w", err)
	}
	if t.KEK, err = e.keys.StoreOwnKEK(ctx, t.Owner(), keystore.KEKRecord{}, w.Provider, ready); err != nil {
		return nil, intent, err
	}
	v := t.Keys.Active()
	var g errgroup.Group
	for _, b := range []keyring.Binding{
		t.Owner().Binding(t.PlacementKeyID, "", keyring.PlacementKey),
		t.Owner().Binding(v.KeyID, v.KeyType, keyring.PageKey),
	} {
		g.Go(func() error { return e.keys.CreateKey(ctx, t.KEKID(), b) })
	}
	if err := g.Wait(); err != nil {
		return nil, intent, err
	}
	if err := h.Put(ctx, t); err != nil {
		return nil, intent, err
	}
	if e.intents.Delete(ctx, intent.ID) != nil {
		return t, intent, nil //nolint:nilerr // the tenant is there; only the intent is left
	}
	return t, nil, nil
}

// recoverCreation finishes a creation by its intent. If the tenant's record is of this
// incarnation, its keys are in use, and the intent is deleted. If there is no record,
// or one of another incarnation, nothing will use the keys: they are deleted, then the
// intent.
func (e *Engine) recoverCreation(ctx context.Context, h *tenant.Held, intent intents.Intent) error {
	// A Put, or a deletion, of the record that failed may have taken effect.
	if err := h.PutAsRead(ctx); err != nil {
		return err
	}
	if t := h.Record(); t == nil || t.Incarnation != intent.Incarnation {
		if err := e.keys.DestroyAllKeys(ctx, intent.Incarnation); err != nil {
			return err
		}
	}
	return e.intents.Delete(ctx, intent.ID)
}
