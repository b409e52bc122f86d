// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package rotation

import (
	"context"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/destruction"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/itemstore"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/jobs"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/keystore"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/ledger"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/settings"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/tenant"
)

// Intent is an entry of the write-ahead log for a rotation, or for the creation of a
// tenant, which is a rotation from nothing. It is immutable and never holds key
// material. It exists from before the new keys are made until after the end.
type Intent struct {
	ID          string `json:"-" mapstructure:"-"` // given by the log
	TenantID    string `json:"tenant_id" mapstructure:"tenant_id"`
	Incarnation string `json:"incarnation" mapstructure:"incarnation"`
	RotationID  string `json:"rotation_id,omitempty" mapstructure:"rotation_id"` // empty: a creation
	KeyID       string `json:"key_id,omitempty" mapstructure:"key_id"`
}

// IsCreation reports whether the intent is of the creation of a tenant.
func (i Intent) IsCreation() bool { return i.RotationID == "" }

// jobID keys the work on an intent.
func (i Intent) jobID() string {
	if i.IsCreation() {
		return "creation/" + i.Incarnation
	}
	return i.RotationID
}

// IntentOf is the intent of t's unfinished rotation.
func IntentOf(t *tenant.Record) Intent {
	r := t.Rotation
	return Intent{ID: r.IntentID, TenantID: t.ID, Incarnation: t.Incarnation, RotationID: r.ID, KeyID: r.ToKeyID}
}

// Intents is the write-ahead log.
type Intents interface {
	// Put adds an entry and returns its ID.
	Put(context.Context, Intent) (id string, err error)
	// Delete removes an entry; one that is not there is no error.
	Delete(ctx context.Context, id string) error
}

// Engine rotates tenants' keys.
type Engine struct {
	settings    *settings.Store
	keys        *keystore.Store
	tenants     *tenant.Store
	items       *itemstore.Store
	intents     Intents
	ledger      *ledger.Ledger
	destruction *destruction.Engine
	now         func() time.Time

	jobs  *jobs.Runner
	pages *jobs.Semaphore // pages in flight, of all rotations together
	log   hclog.Logger

	held    held
	refused func(tenantID, reason string) // see WatchRefusals

	counters counters

	mu   sync.Mutex
	live map[string]*Run // unfinished rotations worked on here, by ID
	rate float64         // items a second that the latest rotation here made
}

// Config has the packages, the clock and the logger that an Engine uses.
type Config struct {
	Settings    *settings.Store
	Keys        *keystore.Store
	Tenants     *tenant.Store
	Items       *itemstore.Store
	Intents     Intents
	Ledger      *ledger.Ledger
	Destruction *destruction.Engine
	Now         func() time.Time

	Jobs  *jobs.Runner
	Pages *jobs.Semaphore // bounds the pages in flight, of all rotations together
	Log   hclog.Logger
}

// NewEngine returns an Engine.
func NewEngine(c Config) *Engine {
	return &Engine{
		settings: c.Settings, keys: c.Keys, tenants: c.Tenants, items: c.Items,
		intents: c.Intents, ledger: c.Ledger, destruction: c.Destruction, now: c.Now, jobs: c.Jobs, pages: c.Pages, log: c.Log,
		live: map[string]*Run{}, refused: func(string, string) {},
	}
}
