// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package proxy

import (
	"context"
	"maps"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/vault-plugin-dek/vault-plugin-dek/internal/version"
	"github.com/vault-plugin-dek/vault-plugin-dek/proxy/vault"
)

const (
	// healthAge is how long an answer of Vault's is good for: whoever asks the
	// proxy without a token must not be able to make it hammer Vault.
	healthAge = time.Second
	// servesAge is the same for the audited request, of which each leaves lines in
	// Vault's audit log. A bad answer is asked for again after healthAge.
	servesAge = 10 * time.Second
	// healthTimeout is shorter than a call's: a prober does not wait long.
	healthTimeout = 2 * time.Second
)

// healthProbe asks one Vault for its health, once for all who ask at the same time.
type healthProbe struct {
	vault Vault
	now   func() time.Time

	mu       sync.Mutex
	at       time.Time
	health   vault.Health
	err      error
	servesAt time.Time
	serves   error
}

// get returns what Vault said at most healthAge ago. Callers queue behind the
// one that asks, and then share its answer.
func (h *healthProbe) get(ctx context.Context) vaultHealth {
	h.mu.Lock()
	defer h.mu.Unlock()
	if !h.isFresh(h.at, healthAge) {
		// The caller that started the probe may leave; other callers still wait for it.
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), healthTimeout)
		defer cancel()
		h.health, h.err = h.vault.Health(ctx)
		h.at = h.now()
		h.try(ctx)
	}
	return vaultHealth{h.health, h.err, h.serves}
}

// try makes a request that is audited, where Vault says that it can serve: an audit
// device that cannot be written blocks every request, and Vault's health is silent
// about it.
func (h *healthProbe) try(ctx context.Context) {
	if !ready(h.health, h.err) || (h.serves == nil && h.isFresh(h.servesAt, servesAge)) {
		return
	}
	h.serves = h.vault.Serves(ctx)
	h.servesAt = h.now()
}

// isFresh takes a clock that was set back for a long time.
func (h *healthProbe) isFresh(at time.Time, most time.Duration) bool {
	age := h.now().Sub(at)
	return !at.IsZero() && age >= 0 && age < most
}

// vaultHealth is what a probe found.
type vaultHealth struct {
	vault.Health
	err    error // of the question for the health
	serves error // of the audited request
}

func (h vaultHealth) healthy() bool { return ready(h.Health, h.err) && h.serves == nil }

// ready reports whether Vault says that it can serve requests. A standby forwards
// them, if there is an active node.
func ready(h vault.Health, err error) bool {
	return err == nil && h.Initialized && !h.Sealed && !h.DRSecondary && !h.Leaderless
}

type healthAnswer struct {
	Status    string                 `json:"status"` // "healthy" or "unhealthy"
	Vault     *vaultState            `json:"vault,omitempty"`
	Realms    map[string]*vaultState `json:"realms,omitempty"` // where there are several
	Proxy     *proxyState            `json:"proxy,omitempty"`
	Timestamp stamp                  `json:"timestamp"`
}

// vaultState is what the admin route adds. The state is null while Vault is
// out of reach and cannot be asked.
type vaultState struct {
	Reachable   bool    `json:"reachable"`
	Initialized *bool   `json:"initialized"`
	Sealed      *bool   `json:"sealed"`
	Standby     *bool   `json:"standby"`
	Version     *string `json:"version"`
	// Serving is false where Vault fails requests all the same, as it does while no
	// audit device can be written.
	Serving bool `json:"serving"`
}

type proxyState struct {
	Version string `json:"version"`
	Commit  string `json:"commit"`
}

func (h vaultHealth) state() *vaultState {
	state := &vaultState{Reachable: h.err == nil, Serving: h.healthy()}
	if h.err == nil {
		state.Initialized, state.Sealed, state.Standby, state.Version = &h.Initialized, &h.Sealed, &h.Standby, &h.Version
	}
	return state
}

// vaultHealths asks the Vaults of all realms.
func (p *Proxy) vaultHealths(ctx context.Context) map[string]vaultHealth {
	table := *p.realms.Load()
	found := map[string]vaultHealth{}
	var mu sync.Mutex
	var all sync.WaitGroup
	for name, r := range table {
		all.Go(func() {
			h := r.health.get(ctx)
			mu.Lock()
			defer mu.Unlock()
			found[name] = h
		})
	}
	all.Wait()
	return found
}

// getHealth is GET /health and /api/v1/health. The proxy of several realms is well
// while it can serve one: a load balancer that took it out for the sealed Vault of one
// organization would take it from all.
func (p *Proxy) getHealth(w http.ResponseWriter, r *http.Request) error {
	return p.answerHealth(w, p.vaultHealths(r.Context()), healthAnswer{})
}

// getAdminHealth is GET /api/v1/admin/health.
func (p *Proxy) getAdminHealth(w http.ResponseWriter, r *http.Request) error {
	found := p.vaultHealths(r.Context())
	answer := healthAnswer{Proxy: &proxyState{Version: version.Version(), Commit: version.Commit()}}
	name := DefaultRealm
	if _, ok := found[name]; !ok {
		name = slices.Min(slices.Collect(maps.Keys(found)))
	}
	answer.Vault = found[name].state()
	if len(found) > 1 {
		answer.Realms = map[string]*vaultState{}
		for name, h := range found {
			answer.Realms[name] = h.state()
		}
	}
	return p.answerHealth(w, found, answer)
}

func (p *Proxy) answerHealth(w http.ResponseWriter, found map[string]vaultHealth, answer healthAnswer) error {
	answer.Status, answer.Timestamp = "unhealthy", stamp(p.now())
	status := http.StatusServiceUnavailable
	for _, h := range found {
		if h.healthy() {
			answer.Status, status = "healthy", http.StatusOK
		}
	}
	return writeJSON(w, status, answer)
}
