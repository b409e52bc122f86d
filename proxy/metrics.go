// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package proxy

import (
	"context"
	"errors"
	"net/http"
	"runtime"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/vault-plugin-dek/vault-plugin-dek/internal/version"
	"github.com/vault-plugin-dek/vault-plugin-dek/proxy/internal/throttle"
	"github.com/vault-plugin-dek/vault-plugin-dek/proxy/vault"
)

// metrics is a registry of the proxy's own, so that two proxies in one process
// do not share figures. No label is a caller's to choose.
type metrics struct {
	handler   http.Handler
	requests  *prometheus.CounterVec
	durations *prometheus.HistogramVec
	logins    *prometheus.CounterVec
	loginTime prometheus.Histogram
	cache     *prometheus.CounterVec
}

// newMetrics makes the registry. healths asks the Vaults of all realms.
func newMetrics(healths func(context.Context) map[string]vaultHealth) *metrics {
	m := &metrics{
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "dek_proxy_requests_total", Help: "Requests answered, by route pattern, method and status code.",
		}, []string{"route", "method", "code"}),
		durations: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "dek_proxy_request_duration_seconds", Help: "Time to answer a request, by route pattern and method.",
			Buckets: prometheus.DefBuckets,
		}, []string{"route", "method"}),
		logins: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "dek_proxy_logins_total", Help: "Logins at Vault, by result.",
		}, []string{"result"}),
		loginTime: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "dek_proxy_login_duration_seconds", Help: "Time that Vault took for a login.",
			Buckets: prometheus.DefBuckets,
		}),
		cache: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "dek_proxy_token_cache_lookups_total", Help: "Lookups of a Vault token for a JWT, by result.",
		}, []string{"result"}),
	}
	// A result that has not happened yet is a zero, not a gap in a graph.
	for _, result := range []string{loginOK, loginRefused, loginRateLimited, loginThrottled, loginTimeout, loginUnavailable} {
		m.logins.WithLabelValues(result)
	}
	for _, result := range []string{cacheHit, cacheMiss} {
		m.cache.WithLabelValues(result)
	}
	registry := prometheus.NewRegistry()
	registry.MustRegister(m.requests, m.durations, m.logins, m.loginTime, m.cache,
		vaultUp(healths), buildInfo(), collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	m.handler = promhttp.HandlerFor(registry, promhttp.HandlerOpts{})
	return m
}

// vaultUp is a [prometheus.Collector] that asks as the health routes do: however often the
// proxy is scraped, Vault is asked once a second.
type vaultUp func(context.Context) map[string]vaultHealth

var vaultUpDesc = prometheus.NewDesc("dek_proxy_vault_up", "1 if the realm's Vault can serve requests, as the health says.", []string{"realm"}, nil)

// Describe implements [prometheus.Collector].
func (vaultUp) Describe(descs chan<- *prometheus.Desc) { descs <- vaultUpDesc }

// Collect implements [prometheus.Collector]. A probe ends by itself, after healthTimeout.
func (up vaultUp) Collect(metrics chan<- prometheus.Metric) {
	for realm, h := range up(context.Background()) {
		value := 0.0
		if h.healthy() {
			value = 1
		}
		metrics <- prometheus.MustNewConstMetric(vaultUpDesc, prometheus.GaugeValue, value, realm)
	}
}

// buildInfo is always 1: its labels say what runs.
func buildInfo() prometheus.Collector {
	return prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "dek_proxy_build_info", Help: "The version that runs.",
		ConstLabels: prometheus.Labels{
			"version": version.Version(), "commit": version.Commit(), "goversion": runtime.Version(),
		},
	}, func() float64 { return 1 })
}

const (
	loginOK          = "ok"
	loginRefused     = "refused"
	loginRateLimited = "rate_limited" // by Vault
	loginThrottled   = "throttled"    // by the proxy
	loginTimeout     = "timeout"
	loginUnavailable = "unavailable"
	cacheHit         = "hit"
	cacheMiss        = "miss"
)

func (m *metrics) request(route, method string, code int, took time.Duration) {
	m.requests.WithLabelValues(route, method, strconv.Itoa(code)).Inc()
	m.durations.WithLabelValues(route, method).Observe(took.Seconds())
}

func (m *metrics) login(err error, took time.Duration) {
	m.loginTime.Observe(took.Seconds())
	m.logins.WithLabelValues(loginResult(err)).Inc()
}

// loginResult sorts logins as the callers see them.
func loginResult(err error) string {
	if err == nil {
		return loginOK
	}
	var tooMany *throttle.Refused
	switch {
	case errors.As(err, &tooMany):
		return loginThrottled
	case errors.Is(err, vault.ErrTimeout), errors.Is(err, errBusy):
		return loginTimeout
	}
	switch loginProblem(err).status {
	case http.StatusUnauthorized:
		return loginRefused
	case http.StatusTooManyRequests:
		return loginRateLimited
	default:
		return loginUnavailable
	}
}

func (m *metrics) cacheLookup(hit bool) {
	if hit {
		m.cache.WithLabelValues(cacheHit).Inc()
		return
	}
	m.cache.WithLabelValues(cacheMiss).Inc()
}

// getMetrics is GET /metrics, in the Prometheus text format.
func (p *Proxy) getMetrics(w http.ResponseWriter, r *http.Request) error {
	p.metrics.handler.ServeHTTP(w, r)
	return nil
}
