// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package proxy

import (
	"context"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/uuid"
	"github.com/hashicorp/go-hclog"

	"github.com/vault-plugin-dek/vault-plugin-dek/proxy/ui"
)

// Config is what a Proxy is made of. Realms are required; the rest has defaults.
type Config struct {
	// Realms are the organizations, by the name that the realmname header gives.
	Realms map[string]Realm
	// RequestTimeout bounds all calls of one request together, 30 seconds by default.
	RequestTimeout time.Duration
	// PublicURL is what callers reach the proxy as, without a path. Empty: the
	// host that a request was sent to, if it is the proxy's.
	PublicURL string
	// OwnName reports whether the certificate that is served over TLS is good for a
	// name. Default: for none.
	OwnName func(name string) bool
	// SeparateAdmin takes /metrics and the admin health off the Proxy, for Admin to
	// serve.
	SeparateAdmin bool
	// CacheSize is how many Vault tokens are kept at most, 10,000 by default.
	CacheSize int
	// TrustedProxies are those whose X-Forwarded-For is believed. Default: nobody.
	TrustedProxies []netip.Prefix
	// RefusedPerAddress and RefusedPerAccount are how many logins may be refused in
	// a minute, 30 and 10 by default, before the next are answered 429. As many calls
	// of an address may come with Vault tokens that Vault does not know.
	RefusedPerAddress, RefusedPerAccount int
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
	ownName   func(name string) bool
	log       hclog.Logger
	now       func() time.Time
	retryWait time.Duration
	tokens    *tokenCache
	metrics   *metrics
	discards  discards
	logins    *logins
	own       *ownTokens
	trusted   []netip.Prefix
	ui        http.Handler
	mux       *http.ServeMux
	adminMux  *http.ServeMux
}

// New returns a Proxy, or an error that names the field at fault.
func New(cfg Config) (*Proxy, error) {
	cfg = cfg.withDefaults()
	p := &Proxy{
		timeout:   cfg.RequestTimeout,
		publicURL: strings.TrimRight(cfg.PublicURL, "/"), ownName: cfg.OwnName, log: cfg.Logger,
		now: cfg.now, retryWait: cfg.retryWait, discards: newDiscards(), trusted: cfg.TrustedProxies,
	}
	p.metrics = newMetrics(p.vaultHealths)
	var err error
	if p.logins, err = newLogins(cfg.RefusedPerAddress, cfg.RefusedPerAccount, p.now); err != nil {
		return nil, err
	}
	if p.own, err = newOwnTokens(cfg.RefusedPerAddress, p.now); err != nil {
		return nil, err
	}
	if err = p.SetRealms(cfg.Realms); err != nil {
		return nil, err
	}
	if p.tokens, err = newTokenCache(cfg.CacheSize, p.now, p.metrics.cacheLookup); err != nil {
		return nil, err
	}
	if p.ui, err = ui.New(ui.Config{Host: pageHost{p}, PublicURL: p.publicURL, Now: p.now}); err != nil {
		return nil, err
	}
	p.mux, p.adminMux = p.muxes(cfg.SeparateAdmin)
	return p, nil
}

func (cfg Config) withDefaults() Config {
	if cfg.RequestTimeout <= 0 {
		cfg.RequestTimeout = 30 * time.Second
	}
	if cfg.RefusedPerAddress <= 0 {
		cfg.RefusedPerAddress = 30
	}
	if cfg.RefusedPerAccount <= 0 {
		cfg.RefusedPerAccount = 10
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
	id         string
	client     string // the client's address, empty if it is not known
	addressKey string // what the client's refused logins are counted under
	tenant     string // once it is known to be a UUID

	// A view of the page makes several calls at once. The log reads once all have ended.
	mu     sync.Mutex
	entity string // Vault's ID of the caller, once it has let it in
	reason string // why the answer is a refusal
}

func (e *exchange) setEntity(id string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.entity = id
}

func (e *exchange) setReason(why string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.reason = why
}

type exchangeKey struct{}

func exchangeOf(ctx context.Context) *exchange {
	if e, ok := ctx.Value(exchangeKey{}).(*exchange); ok {
		return e
	}
	return &exchange{}
}

func newID() string { return uuid.NewString() }
