// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package wrappingkey

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/importstore"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/jobs"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/keyring"
)

func isNotWrapped(err error) bool { return errors.Is(err, keyring.ErrNotWrapped) }

// never is when to look for keys to destroy if there are none.
var never = time.Unix(1<<40, 0)

// Drive destroys, in the background, the former keys whose time has passed. Vault's tick
// calls it, on the active node; the record is read once after a start, and then when a
// key's time has come.
func (e *Engine) Drive() {
	e.jobs.Run(jobs.Job{
		ID: "wrapping key", FailureMessage: "trouble destroying a former wrapping key",
		Step: func(ctx context.Context) (done, progressed bool, err error) {
			err = e.destroyFormer(ctx)
			return err == nil, false, err
		},
	})
}

func (e *Engine) destroyFormer(ctx context.Context) error {
	e.lock.Lock()
	defer e.lock.Unlock()
	if e.now().Before(e.due) {
		return nil
	}
	r, err := e.keys.Wrapping(ctx)
	if err != nil {
		return err
	}
	if r == nil || len(r.Former) == 0 {
		e.due = never
		return nil
	}
	// A clock that was set back may have mixed up their order.
	first := slices.MinFunc(r.Former, func(a, b importstore.FormerWrappingKey) int { return a.DestroyAfter.Compare(b.DestroyAfter) })
	if e.now().Before(first.DestroyAfter) {
		e.due = first.DestroyAfter
		return nil
	}
	return e.destroyPassed(ctx, r)
}

// destroyPassed destroys the keys whose time has passed, then says so in the record,
// then deletes what no record names.
func (e *Engine) destroyPassed(ctx context.Context, r *importstore.WrappingRecord) error {
	next := *r
	next.Former = nil
	for _, f := range r.Former {
		if e.now().Before(f.DestroyAfter) {
			next.Former = append(next.Former, f)
			continue
		}
		if err := e.keys.DestroyWrappingKey(ctx, f.KeyID); err != nil {
			return err
		}
		e.log.Info("former wrapping key destroyed", "key_id", f.KeyID)
	}
	if err := e.keys.PutWrapping(ctx, &next); err != nil {
		return err
	}
	e.due = time.Time{}
	return e.destroyUnnamed(ctx, &next)
}

// destroyUnnamed deletes what attempts to make a key have left, after the record r was
// put.
func (e *Engine) destroyUnnamed(ctx context.Context, r *importstore.WrappingRecord) error {
	stored, err := e.keys.StoredWrappingKeys(ctx)
	if err != nil {
		return err
	}
	for _, id := range stored {
		named := id == r.KeyID || slices.ContainsFunc(r.Former, func(f importstore.FormerWrappingKey) bool { return f.KeyID == id })
		if named {
			continue
		}
		if err := e.keys.DestroyWrappingKey(ctx, id); err != nil {
			return err
		}
	}
	return nil
}
