// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package destruction

import (
	"context"
	"sync"
	"time"

	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/itemstore"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/keyring"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/keystore"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/ledger"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/tenant"
	"github.com/vault-plugin-dek/vault-plugin-dek/evidence"
)

// MaxDestroyed is how many keys one Put of a record says to be destroyed, since it
// carries an event for each. What is left is destroyed by the next.
const MaxDestroyed = 32

// lookAgainAfter is the time after which a retired key is looked at again that a page is
// on after all, or may be.
const lookAgainAfter = 24 * time.Hour

// Config has the packages and the clock that an Engine uses.
type Config struct {
	Keys    *keystore.Store
	Tenants *tenant.Store
	Items   *itemstore.Store
	Ledger  *ledger.Ledger
	Now     func() time.Time
}

// Engine destroys keys of tenants' versions.
type Engine struct {
	keys    *keystore.Store
	tenants *tenant.Store
	items   *itemstore.Store
	ledger  *ledger.Ledger
	now     func() time.Time
}

// NewEngine returns an Engine.
func NewEngine(c Config) *Engine {
	return &Engine{keys: c.Keys, tenants: c.Tenants, items: c.Items, ledger: c.Ledger, now: c.Now}
}

// A Cause says why a key goes, and what was looked at before.
type Cause struct {
	Head    evidence.Head
	Why     string
	Scanned int // pages
	Left    int // pages that are on it: 0 unless forced

	// External tells which versions have an external key: see [Engine.External].
	External func() (map[string]bool, error)
}

// External returns a function that lists the external keys of a tenant at its first call,
// and from then on answers the same. So however many keys go, there is one List. The caller
// holds the tenant's lock exclusively, and uses the function only under it.
func (e *Engine) External(ctx context.Context, o keyring.Owner) func() (map[string]bool, error) {
	return sync.OnceValues(func() (map[string]bool, error) { return e.keys.ExternalUse(ctx, o) })
}

// log adds the event of a key's end.
func (d Cause) log(next *tenant.Record, v keyring.Version, which string) error {
	return next.Carry(d.Head, &evidence.KeyDestroyed{
		Version: int64(v.Number), KeyID: v.KeyID, Which: which, Why: d.Why,
		PagesScanned: int64(d.Scanned), PagesLeft: int64(d.Left),
	})
}

// logExternal adds the event of an external key whose destruction was interrupted after the
// key was deleted.
func (d Cause) logExternal(next *tenant.Record, v keyring.Version) error {
	if !v.ExternalKeyEnds {
		return nil
	}
	d.Why = evidence.WhyAsked
	if !v.Gone.At.IsZero() {
		d.Why = evidence.WhyHolders
	}
	return d.log(next, v, evidence.WhichExternal)
}
