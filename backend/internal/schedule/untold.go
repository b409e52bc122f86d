// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package schedule

import (
	"context"
	"errors"
	"sync"

	"github.com/google/uuid"

	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/jobs"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/ledger"
)

// untold are the tenants whose records carry events that the evidence log may lack, as a
// reading of the records has found, or because a Put failed. Whether the log lacks them is
// looked up later, so that reading the records does not wait for the log.
type untold struct {
	mu  sync.Mutex
	ids []uuid.UUID // in the order of the shards, in which the log's index is read
}

func (u *untold) add(id uuid.UUID) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.ids = append(u.ids, id)
}

func (u *untold) first() (id uuid.UUID, found bool) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if len(u.ids) == 0 {
		u.ids = nil
		return id, false
	}
	return u.ids[0], true
}

func (u *untold) drop() {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.ids = u.ids[1:]
}

// mayLack notes that a Put of a record failed: what it carried may have taken effect.
func (e *Engine) mayLack(tenantID string) {
	if id, err := uuid.Parse(tenantID); err == nil && e.active.Load() {
		e.untold.add(id)
		e.tellAgain()
	}
}

// tellAgain has the evidence log told, in the background, of what it lacks. A record
// that cannot be read keeps no other waiting: the next reading finds it.
func (e *Engine) tellAgain() {
	e.carrierTellsAgain("evidence/settings", e.settings)
	e.carrierTellsAgain("evidence/keys", e.keys)
	if _, some := e.untold.first(); !some {
		return
	}
	e.jobs.Run(jobs.Job{
		ID: "evidence/records", FailureMessage: "submitting events to the evidence log failed",
		Step: func(ctx context.Context) (done, progressed bool, err error) {
			var errs []error
			for id, some := e.untold.first(); some && ctx.Err() == nil; id, some = e.untold.first() {
				err := e.tenants.TellAgain(ctx, id.String())
				if jobs.ReadOnly(err) {
					return false, false, err
				}
				if err != nil && ctx.Err() == nil {
					errs = append(errs, err)
				}
				e.untold.drop()
			}
			if err := errors.Join(errs...); err != nil {
				e.log.Warn("events of some tenants wait for the next reading of their records", "error", err)
			}
			return true, true, nil
		},
	})
}

func (e *Engine) carrierTellsAgain(job string, c ledger.Carrier) {
	if !c.MayLack(e.now()) {
		return
	}
	e.jobs.Run(jobs.Job{
		ID: job, FailureMessage: "submitting the mount's events to the evidence log failed",
		Step: func(ctx context.Context) (done, progressed bool, err error) {
			err = c.TellAgain(ctx, e.now())
			return err == nil, false, err
		},
	})
}
