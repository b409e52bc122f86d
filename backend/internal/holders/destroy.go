// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package holders

import (
	"context"
	"slices"

	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/keyring"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/settings"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/tenant"
	"github.com/vault-plugin-dek/vault-plugin-dek/evidence"
)

// maxDestroyed is how many keys one Put says to be destroyed, since it carries an event
// for each. The next round destroys the others.
const maxDestroyed = 32

// DestroyGone destroys the external keys of a tenant that no holder needs any more and
// whose time has come, and returns their number.
func (e *Engine) DestroyGone(ctx context.Context, tenantID string) (destroyed int, err error) {
	config, err := e.settings.Config(ctx)
	if err != nil || config.Unreadable {
		return 0, err // how long keys are to be kept is not known
	}
	err = e.tenants.Hold(ctx, tenantID, func(h *tenant.Held) error {
		if t := h.Record(); t == nil || t.State != tenant.Active {
			return nil
		}
		due, err := e.commit(ctx, h, config)
		if err != nil || len(due) == 0 {
			return err
		}
		destroyed = len(due)
		return e.destroy(ctx, h, due)
	})
	return destroyed, err
}

// commit returns the versions whose external keys are to be destroyed now, once a Put has
// said so: from then on nothing under them opens, and no report takes it back. A version
// that is not gone after all, or that the settings keep for longer now, keeps its key.
func (e *Engine) commit(ctx context.Context, h *tenant.Held, c settings.Config) (due []keyring.Version, err error) {
	now := e.now()
	_, err = h.Update(ctx, func(next *tenant.Record) error {
		settle(next, c, now)
		most := min(maxDestroyed, next.RoomForEvents()-1) // each has an event, and so has the minimum
		for i := range next.Keys.Versions {
			v := &next.Keys.Versions[i]
			if ends := next.ExternalKeyEnds(v); len(due) < most && !ends.IsZero() && !now.Before(ends) {
				v.ExternalKeyEnds = true
				due = append(due, *v)
			}
		}
		if slices.Equal(next.Keys.Versions, h.Record().Keys.Versions) {
			return tenant.ErrUnchanged // but for what an earlier try has not finished
		}
		if len(due) == 0 {
			return nil
		}
		return e.raiseMinimum(next)
	})
	return due, err
}

// raiseMinimum raises the least version whose ciphertexts are opened to the first one that
// keeps its key. It never lowers it, nor raises it above the active version.
func (e *Engine) raiseMinimum(next *tenant.Record) error {
	old, least := next.MinDecryptionVersion, next.Keys.Active().Number
	for i := range next.Keys.Versions {
		if v := &next.Keys.Versions[i]; v.State != keyring.Destroyed && !v.ExternalKeyEnds {
			least = min(least, v.Number)
			break // they are in order
		}
	}
	if least <= next.LeastDecryptable() {
		return nil
	}
	next.MinDecryptionVersion = least
	return next.Carry(e.head(), &evidence.MinimumChanged{Old: int64(old), New: int64(least)})
}

// destroy deletes the keys, and then says so in the record. If it fails between, the
// record says that the keys end, and the next round finishes it.
func (e *Engine) destroy(ctx context.Context, h *tenant.Held, due []keyring.Version) error {
	next := h.Record().Clone()
	for i := range due { // before a key goes: it may fail
		if err := next.Carry(e.head(), &evidence.KeyDestroyed{
			Version: int64(due[i].Number), KeyID: due[i].KeyID, Which: evidence.WhichExternal, Why: evidence.WhyHolders,
		}); err != nil {
			return err
		}
	}
	for _, v := range due {
		if err := e.keys.DestroyExternalKey(ctx, next.Incarnation, v.KeyID); err != nil {
			return err
		}
		if err := e.keys.ForgetSeals(ctx, next.Incarnation, v); err != nil {
			return err
		}
		next.Keys.Destroy(v.Number, e.now())
	}
	if err := h.Put(ctx, next); err != nil {
		return err
	}
	e.counters.destroyed.Add(int64(len(due)))
	for _, v := range due {
		e.log.Info("external key destroyed, since no holder keeps anything of its version", "tenant_id", next.ID, "key_version", v.Number)
	}
	return nil
}

// head begins an event that the engine decides by itself.
func (e *Engine) head() evidence.Head { return evidence.Head{Time: e.now(), Actor: evidence.System} }
