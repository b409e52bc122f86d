// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package proxy

import (
	"context"
	"net/http"
	"strings"
	"sync/atomic"
	"time"

	"github.com/google/uuid"
	"github.com/hashicorp/go-hclog"
)

// Config is what a Proxy is made of. Realms are required; the rest has defaults.
type Config struct {
	// Realms maps a realm's name to its Vault.
	Realms map[string]Vault
	// RequestTimeout bounds all calls of one request together, 30 seconds by default.
	RequestTimeout time.Duration
	// PublicURL is what callers reach the proxy as, without a path. Empty: the
	// host that a request was sent to.
	PublicURL string
	// CacheSize is how many Vault tokens are kept at most, 10,000 by default.
	CacheSize int
	// Logger gets a line for each request. Default: none.
	Logger hclog.Logger

	now       func() time.Time // the clock, for tests
	retryWait time.Duration    // the pause before a repeated rotate
}

// Proxy is the http.Handler. It is safe for concurrent use.
type Proxy struct {
	realms    atomic.Pointer[realms]
	timeout   time.Duration
	publicURL string
	log       hclog.Logger
	now       func() time.Time
	retryWait time.Duration
	tokens    *tokenCache
	health    *healthProbe
	metrics   *metrics
	discards  discards
	mux       *http.ServeMux
}

// New returns a Proxy, or an error that names the field at fault.
func New(cfg Config) (*Proxy, error) {
	cfg = cfg.withDefaults()
	p := &Proxy{
		timeout:   cfg.RequestTimeout,
		publicURL: strings.TrimRight(cfg.PublicURL, "/"), log: cfg.Logger,
		now: cfg.now, retryWait: cfg.retryWait, metrics: newMetrics(), discards: newDiscards(),
	}
	err := p.SetRealms(cfg.Realms)
	if err != nil {
		return nil, err
	}
	if p.tokens, err = newTokenCache(cfg.CacheSize, p.now, p.metrics.cacheLookup); err != nil {
		return nil, err
	}
	p.health = &healthProbe{ask: p.vaultHealth, now: p.now}
	p.mux = p.routes()
	return p, nil
}

func (cfg Config) withDefaults() Config {
	if cfg.RequestTimeout <= 0 {
		cfg.RequestTimeout = 30 * time.Second
	}
	if cfg.CacheSize <= 0 {
		cfg.CacheSize = 10_000
	}
	if cfg.Logger == nil {
		cfg.Logger = hclog.NewNullLogger()
	}
	if cfg.now == nil {
		cfg.now = time.Now
	}
	if cfg.retryWait == 0 {
		cfg.retryWait = 250 * time.Millisecond
	}
	return cfg
}

// exchange is what the log and the envelopes need to know of a request.
type exchange struct {
	id     string
	tenant string // once it is known to be a UUID
}

type exchangeKey struct{}

func exchangeOf(ctx context.Context) *exchange {
	if e, ok := ctx.Value(exchangeKey{}).(*exchange); ok {
		return e
	}
	return &exchange{}
}

func newID() string { return uuid.NewString() }
