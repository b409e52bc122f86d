// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package rotation

import (
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/destruction"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/intents"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/itemstore"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/jobs"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/keystore"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/ledger"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/settings"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/tenant"
)

// Engine rotates tenants' keys.
type Engine struct {
	settings    *settings.Store
	keys        *keystore.Store
	tenants     *tenant.Store
	items       *itemstore.Store
	intents     *intents.Log
	ledger      *ledger.Ledger
	destruction *destruction.Engine
	now         func() time.Time

	jobs  *jobs.Runner
	pages *jobs.Semaphore // pages in flight, of all rotations together
	log   hclog.Logger

	held    held
	refused func(tenantID, reason string) // see WatchRefusals

	counters counters
	waiting  atomic.Int64 // rotations that have ended and wait for the evidence log

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
	Intents     *intents.Log
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
