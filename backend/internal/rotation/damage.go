// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package rotation

import (
	"errors"
	"maps"
	"sync"

	"github.com/hashicorp/go-hclog"

	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/intents"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/item"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/itemstore"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/keyring"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/storage"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/tenant"
)

// allPages stands in a failure for pages that cannot be listed.
const allPages = "all"

// held has the tenants of whom something cannot go on because of a damaged entry.
type held struct {
	mu      sync.Mutex
	reasons map[string]string // by tenant
}

// isDamaged reports whether err says that trying again soon will not help.
func isDamaged(err error) bool { return storage.IsDamaged(err) || errors.Is(err, tenant.ErrDamaged) }

// Damaged returns the tenants whose rotation, or creation, cannot go on because of a
// damaged entry, with the reason. Vault's tick tries again.
func (e *Engine) Damaged() map[string]string {
	e.held.mu.Lock()
	defer e.held.mu.Unlock()
	return maps.Clone(e.held.reasons)
}

// leave notes that work on an intent cannot go on for now. The caller ends the job, whose
// Then gives its place in the schedule's budget back.
func (e *Engine) leave(i intents.Intent, err error, log hclog.Logger) {
	e.held.mu.Lock()
	defer e.held.mu.Unlock()
	if e.held.reasons == nil {
		e.held.reasons = map[string]string{}
	}
	if e.held.reasons[i.TenantID] == "" {
		log.Error("what is unfinished cannot go on, and is looked at again every minute", "error", err)
	}
	e.held.reasons[i.TenantID] = err.Error()
}

// goesOn notes that nothing damaged is in the way of an intent.
func (e *Engine) goesOn(i intents.Intent) {
	e.held.mu.Lock()
	defer e.held.mu.Unlock()
	delete(e.held.reasons, i.TenantID)
}

// failUnlisted notes that the pages cannot be listed, so that none can be moved.
func (r *Run) failUnlisted(err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if _, noted := r.failures[allPages]; !noted {
		r.failures[allPages] = tenant.Failure{Page: allPages, Reason: err.Error()}
		r.failed++
	}
}

// addLost adds to an ended rotation what had been given up before, and takes it out of
// next: every page has been looked at, and replaced if nothing of it could be read. If
// one of these could not be replaced, another rotation says so.
func (r *Run) addLost(next *tenant.Record, ended *tenant.Rotation) {
	r.pagesLost = 0
	lost := next.GivenUp
	if lost == nil {
		return
	}
	for p := range r.failures {
		if p == allPages || next.GaveUp(p.String()) {
			return
		}
	}
	ended.Failed += lost.Items
	r.pagesLost = max(lost.LostPages, len(lost.Failures))
	ended.Failures = append(ended.Failures, lost.Failures...)
	next.GivenUp = nil
}

// lostItems returns the items on pages of destroyed versions, which were given up.
func lostItems(t *tenant.Record, usage itemstore.Usage) (lost item.Counts) {
	if t.GivenUp == nil {
		return lost
	}
	for v := range usage {
		if _, err := t.Keys.Usable(v); errors.Is(err, keyring.ErrVersionDestroyed) {
			lost = lost.Plus(usage.On(v))
		}
	}
	return lost
}
