// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package holders

import (
	"errors"
	"fmt"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/jobs"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/keystore"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/ledger"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/settings"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/tenant"
)

// Bounds that keep a tenant's record below what an entry of storage may have.
const (
	MaxHolders = 64
	MaxCounts  = 64
	// maxScans is how many scans of a holder may be under way.
	maxScans = 8
)

// MaxBackupsKept bounds how long a holder may say that its backups are kept.
const MaxBackupsKept = 3650 * 24 * time.Hour

var (
	// ErrNotFound reports a holder that the tenant does not have.
	ErrNotFound = errors.New("holder not found")
	// ErrTooMany reports a tenant with as many holders as it may have.
	ErrTooMany = fmt.Errorf("a tenant may have at most %d holders", MaxHolders)
	// ErrReport is what every [ReportError] is.
	ErrReport = errors.New("the report is refused")
)

// ReportError says which field of a report breaks which rule.
type ReportError struct{ Message string }

func (e *ReportError) Error() string { return e.Message }

// Unwrap returns [ErrReport].
func (e *ReportError) Unwrap() error { return ErrReport }

// Engine keeps the holders of the tenants of one mount. It is safe for concurrent use.
type Engine struct {
	settings *settings.Store
	keys     *keystore.Store
	tenants  *tenant.Store
	ledger   *ledger.Ledger
	now      func() time.Time
	jobs     *jobs.Runner
	log      hclog.Logger

	counters counters
}

// Config has the packages, the clock and the logger that an Engine uses.
type Config struct {
	Settings *settings.Store
	Keys     *keystore.Store
	Tenants  *tenant.Store
	Ledger   *ledger.Ledger
	Now      func() time.Time
	Jobs     *jobs.Runner
	Log      hclog.Logger
}

// NewEngine returns an Engine.
func NewEngine(c Config) *Engine {
	return &Engine{
		settings: c.Settings, keys: c.Keys, tenants: c.Tenants, ledger: c.Ledger, now: c.Now, jobs: c.Jobs, log: c.Log,
	}
}
