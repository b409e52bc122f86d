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

	"github.com/vault-plugin-dek/vault-plugin-dek/proxy/vault"
)

const (
	// healthAge is how long an answer of Vault's is good for: whoever asks the
	// proxy without a token must not be able to make it hammer Vault.
	healthAge = time.Second
	// healthTimeout is shorter than a call's: a prober does not wait long.
	healthTimeout = 2 * time.Second
)

// healthProbe asks Vault for its health, once for all who ask at the same time.
type healthProbe struct {
	ask func(context.Context) (vault.Health, error)
	now func() time.Time

	mu     sync.Mutex
	at     time.Time
	health vault.Health
	err    error
}

// get returns what Vault said at most healthAge ago. Callers queue behind the
// one that asks, and then share its answer.
func (h *healthProbe) get(ctx context.Context) (vault.Health, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if age := h.now().Sub(h.at); !h.at.IsZero() && age >= 0 && age < healthAge {
		return h.health, h.err
	}
	// The one who asks may leave; the others still want to know.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), healthTimeout)
	defer cancel()
	h.health, h.err = h.ask(ctx)
	h.at = h.now()
	return h.health, h.err
}

// vaultHealth asks the default realm's Vault, or that of the first by name.
func (p *Proxy) vaultHealth(ctx context.Context) (vault.Health, error) {
	table := *p.realms.Load()
	name := DefaultRealm
	if _, ok := table[name]; !ok {
		name = slices.Min(slices.Collect(maps.Keys(table)))
	}
	return table[name].vault.Health(ctx)
}

// healthy reports whether Vault can serve requests. A standby forwards them,
// if there is an active node.
func healthy(h vault.Health, err error) bool {
	return err == nil && h.Initialized && !h.Sealed && !h.DRSecondary && !h.Leaderless
}

type healthAnswer struct {
	Status    string      `json:"status"` // "healthy" or "unhealthy"
	Vault     *vaultState `json:"vault,omitempty"`
	Timestamp stamp       `json:"timestamp"`
}

// vaultState is what the admin route adds. The state is null while Vault is
// out of reach and cannot be asked.
type vaultState struct {
	Reachable   bool    `json:"reachable"`
	Initialized *bool   `json:"initialized"`
	Sealed      *bool   `json:"sealed"`
	Standby     *bool   `json:"standby"`
	Version     *string `json:"version"`
}

// getHealth is GET /health and /api/v1/health.
func (p *Proxy) getHealth(w http.ResponseWriter, r *http.Request) error {
	h, err := p.health.get(r.Context())
	return p.answerHealth(w, healthy(h, err), nil)
}

// getAdminHealth is GET /api/v1/admin/health.
func (p *Proxy) getAdminHealth(w http.ResponseWriter, r *http.Request) error {
	h, err := p.health.get(r.Context())
	state := &vaultState{Reachable: err == nil}
	if err == nil {
		state.Initialized, state.Sealed, state.Standby, state.Version = &h.Initialized, &h.Sealed, &h.Standby, &h.Version
	}
	return p.answerHealth(w, healthy(h, err), state)
}

func (p *Proxy) answerHealth(w http.ResponseWriter, ok bool, state *vaultState) error {
	answer := healthAnswer{Status: "healthy", Vault: state, Timestamp: stamp(p.now())}
	status := http.StatusOK
	if !ok {
		answer.Status, status = "unhealthy", http.StatusServiceUnavailable
	}
	return writeJSON(w, status, answer)
}
