// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package destruction

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/itemstore"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/keyring"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/page"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/storage"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/tenant"
	"github.com/vault-plugin-dek/vault-plugin-dek/evidence"
)

// DestroyVersion destroys the keys of one deactivated version, any, not only the
// oldest (vault#3635), and returns the version as it is then. It fails with a
// [tenant.StateError] while a page is on it or while it has an external key, unless force is
// true. After a forced destruction, pages and ciphertexts on the version never open
// again.
//
// A version that is destroyed already stays as it is, and is no error; did is false
// then.
func (e *Engine) DestroyVersion(ctx context.Context, tenantID string, version int, force bool) (v keyring.Version, did bool, err error) {
	t, err := e.tenants.Active(ctx, tenantID)
	if err != nil {
		return v, false, err
	}
	// Reading every page takes its time: before the lock. Under it only pages
	// that came since are read.
	scan := itemstore.NewScan(e.items, t)
	v, err = e.mayDestroy(ctx, t, version, scan, force)
	if err != nil || v.State == keyring.Destroyed && !force {
		return v, false, err
	}
	err = e.tenants.Hold(ctx, tenantID, func(h *tenant.Held) error {
		t, err := h.Active()
		if err != nil {
			return err
		}
		if t.Incarnation != scan.Incarnation() {
			return storage.ErrContended
		}
		v, err = e.mayDestroy(ctx, t, version, scan, force)
		if err != nil {
			return err
		}
		var lost *tenant.GivenUp
		if force {
			lost = e.lostWith(ctx, t, version, scan)
		}
		if v.State == keyring.Destroyed {
			return giveUp(ctx, h, lost)
		}
		v, err = e.destroyVersion(ctx, h, v, lost, scan, force)
		did = err == nil
		return err
	})
	return v, did, err
}

// mayDestroy returns the version if its keys may be destroyed, or are.
func (e *Engine) mayDestroy(ctx context.Context, t *tenant.Record, version int, scan *itemstore.Scan, force bool) (keyring.Version, error) {
	found := t.Keys.Find(version)
	if t.Keys.WasDestroyed(version) {
		return keyring.Version{Number: version, State: keyring.Destroyed}, nil
	}
	if found == nil {
		return keyring.Version{}, keyring.ErrNoVersion
	}
	v := *found
	if v.State == keyring.Destroyed {
		if force {
			return v, e.scanAll(ctx, scan)
		}
		return v, nil
	}
	if r := t.Rotation; r != nil && (version == r.From || version == r.To) {
		// Pages are on their way from one to the other: in either direction.
		return v, &tenant.StateError{Message: fmt.Sprintf("version %d is part of rotation %s, which is unfinished", version, r.ID)}
	}
	if v.State != keyring.Deactivated {
		return v, &tenant.StateError{Message: fmt.Sprintf("version %d is %s: only a deactivated version can be destroyed", version, v.State)}
	}
	if force {
		return v, e.scanAll(ctx, scan)
	}
	return v, e.mustBeUnused(ctx, t, v, scan)
}

// mustBeUnused fails with a [tenant.StateError] that says what depends on a version.
func (e *Engine) mustBeUnused(ctx context.Context, t *tenant.Record, v keyring.Version, scan *itemstore.Scan) error {
	var uses []string
	switch err := scan.Run(ctx); {
	case errors.Is(err, page.ErrDamaged):
		uses = append(uses, "a page that cannot be read may be on it")
	case err != nil:
		return err
	case scan.Pages(v.Number) > 0:
		uses = append(uses, fmt.Sprintf("pages of items are on it (%d)", scan.Pages(v.Number)))
	}
	external, err := e.keys.ExternalUse(ctx, t.Owner())
	if err != nil {
		return err
	}
	if external[v.KeyID] {
		uses = append(uses, "ciphertexts outside the engine may depend on it (external_use)")
	}
	if len(uses) > 0 {
		return &tenant.StateError{Message: fmt.Sprintf("version %d is in use: %s; force=true destroys it all the same",
			v.Number, strings.Join(uses, " and "))}
	}
	return nil
}

// destroyVersion deletes the key entries and then says so in the record. If it
// fails between, some keys are gone and the record does not yet say it: to
// repeat it finishes it, and so does the end of the next rotation. That there is an
// external key is noted first, so that whoever finishes it knows.
func (e *Engine) destroyVersion(ctx context.Context, h *tenant.Held, v keyring.Version, lost *tenant.GivenUp, scan *itemstore.Scan, force bool) (keyring.Version, error) {
	t := h.Record()
	external, err := e.keys.ExternalUse(ctx, t.Owner())
	if err != nil {
		return v, err
	}
	if external[v.KeyID] && !v.ExternalKeyEnds {
		_, err := h.Update(ctx, func(next *tenant.Record) error {
			next.Keys.Find(v.Number).ExternalKeyEnds = true
			return nil
		})
		if err != nil {
			return v, err
		}
		v.ExternalKeyEnds = true
	}
	next, err := e.logAsked(ctx, h.Record(), v, scan, force)
	if err != nil {
		return v, err
	}
	if err := e.keys.DestroyExternalKey(ctx, t.Incarnation, v.KeyID); err != nil {
		return v, err
	}
	if err := e.keys.DestroyKey(ctx, t.Incarnation, v.KeyID); err != nil {
		return v, err
	}
	if err := e.keys.ForgetSeals(ctx, t.Incarnation, v); err != nil {
		return v, err
	}
	now := e.now()
	v.MarkDestroyed(now) // the ring may have forgotten it by now
	next.Keys.Destroy(v.Number, now)
	if lost != nil {
		next.GivenUp = lost
	}
	return v, h.Put(ctx, next)
}

// logAsked returns the record that carries the events of a version's end that a caller
// asked for. It is made before a key goes: what it needs may fail.
func (e *Engine) logAsked(ctx context.Context, t *tenant.Record, v keyring.Version, scan *itemstore.Scan, force bool) (*tenant.Record, error) {
	next := t.Clone()
	d := Cause{Why: evidence.WhyAsked, Scanned: scan.Read(), Left: scan.Pages(v.Number)}
	var err error
	if d.Head, err = e.ledger.Head(ctx, ""); err != nil {
		return nil, err
	}
	if force {
		d.Why = evidence.WhyForced
		if usage, known := e.items.KnownUsage(t); known {
			d.Scanned, d.Left = usage.AllPages(), usage.Pages(v.Number)
		}
	}
	if v.ExternalKeyEnds || v.PageKeyDestroyed {
		if err := d.log(next, v, evidence.WhichExternal); err != nil {
			return nil, err
		}
	}
	if v.PageKeyDestroyed {
		return next, nil
	}
	return next, d.log(next, v, evidence.WhichPage)
}
