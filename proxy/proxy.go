// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package proxy

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/hashicorp/go-hclog"
)

// DefaultRealm is the realm of a request without a realmname header.
const DefaultRealm = "default"

// Config is what a Proxy is made of. Vault is required; the rest has defaults.
type Config struct {
	Vault Vault
	// Realms maps a realm's name to its auth mount. Default: DefaultRealm at
	// auth mount "jwt" with role "dek".
	Realms map[string]Realm
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
	vault     Vault
	realms    map[string]Realm
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
	if cfg.Vault == nil {
		return nil, errors.New("proxy: a Vault is required")
	}
	cfg = cfg.withDefaults()
	p := &Proxy{
		vault: cfg.Vault, realms: cfg.Realms, timeout: cfg.RequestTimeout,
		publicURL: strings.TrimRight(cfg.PublicURL, "/"), log: cfg.Logger,
		now: cfg.now, retryWait: cfg.retryWait, metrics: newMetrics(), discards: newDiscards(),
	}
	for name, realm := range p.realms {
		if name == "" || realm.Role == "" || !validMount(realm.Mount) {
			return nil, fmt.Errorf("proxy: realm %q needs a name, a mount and a role", name)
		}
	}
	var err error
	if p.tokens, err = newTokenCache(cfg.CacheSize, p.now, p.metrics.cacheLookup); err != nil {
		return nil, err
	}
	p.health = &healthProbe{ask: p.vault.Health, now: p.now}
	p.mux = p.routes()
	return p, nil
}

func (cfg Config) withDefaults() Config {
	if len(cfg.Realms) == 0 {
		cfg.Realms = map[string]Realm{DefaultRealm: {Mount: "jwt", Role: "dek"}}
	}
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

// ParseRealm reads "name=mount:role", as the command line takes it. The mount
// may contain slashes.
func ParseRealm(s string) (string, Realm, error) {
	name, rest, ok := strings.Cut(s, "=")
	colon := strings.LastIndex(rest, ":")
	if !ok || name == "" || colon <= 0 || colon == len(rest)-1 {
		return "", Realm{}, fmt.Errorf("realm %q: want name=mount:role", s)
	}
	realm := Realm{Mount: strings.Trim(rest[:colon], "/"), Role: rest[colon+1:]}
	if !validMount(realm.Mount) {
		return "", Realm{}, fmt.Errorf("realm %q: the mount must be a path of letters, digits, '_', '.' and '-'", s)
	}
	return name, realm, nil
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
