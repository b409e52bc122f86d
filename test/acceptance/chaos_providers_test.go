// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

//go:build acceptance

package acceptance

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"slices"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/vault-plugin-dek/vault-plugin-dek/internal/devstack"
)

// The key providers of a kind with key providers. The tenant that the rotation is of has its
// own KEK under the first.
const (
	transitProvider = "transit" // of another Vault, behind a gate
	kmsProvider     = "kms"     // on a socket, behind a gate
	healthyProvider = "healthy" // of that other Vault, without one
)

// providerLease is the shortest that a provider may have.
const providerLease = 10 * time.Second

// moveLimit is how long moves of KEKs may take once their providers answer again.
const moveLimit = 2 * time.Minute

// chaosProviders are the key providers of an arena, and tenants other than the one that the
// rotation is of.
type chaosProviders struct {
	gates map[string]*gate
	// neighbours have their keys under the mount's KEK at first, and then anywhere. The
	// bystander's own KEK stays under the provider that is never in trouble.
	neighbours *crowd
	bystander  string
}

// newChaosProviders sets up the providers and the other tenants on an arena of one node, which
// serves sockets. The other Vault is the one that contract tests share.
func newChaosProviders(t *testing.T, a *arena, sockets string) *chaosProviders {
	t.Helper()
	owner := newTransitOwner(t, shared(t)) // first: it makes the directory that newKeyService needs
	p := &chaosProviders{
		gates:     map[string]*gate{transitProvider: newGate(), kmsProvider: newGate()},
		bystander: uuid.NewString(),
	}
	s := a.nodes[0]
	write := func(name string, body map[string]any) {
		succeeded(t, callRoot(t, s, http.MethodPut, "dek/providers/"+name, body))
	}
	body := owner.provider()
	write(healthyProvider, body)
	parameters, _ := body["parameters"].(map[string]any)
	parameters["address"] = guardHTTP(t, p.gates[transitProvider], owner.s.VaultAddr())
	body["timeout"] = "3s"
	write(transitProvider, body)
	write(kmsProvider, map[string]any{
		"type": "kmsv2", "socket": guardKMS(t, p.gates[kmsProvider], newKeyService(t), sockets),
		"lease": "10s", "timeout": "3s", "mount": true, "tenants": []string{"*"},
	})
	p.neighbours = newCrowd(t, s, "dek", 12)
	succeeded(t, callRoot(t, s, http.MethodPut, tenantPath(p.bystander), map[string]any{"key_provider": healthyProvider}))
	put(t, s, tenantPath(p.bystander, "secrets/own"), map[string]any{"data": map[string]any{"v": p.bystander}})
	a.keyProvider = transitProvider
	return p
}

// providerStack starts a node for a kind with key providers, and returns the directory of its
// sockets.
func providerStack(t *testing.T, dataDir string) (s *devstack.Stack, sockets string) {
	t.Helper()
	sockets, err := os.MkdirTemp("", "dek-kms-") // not below t.TempDir: a socket's path is short
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, os.RemoveAll(sockets)) })
	return start(t, devstack.Options{
		Storage: devstack.Raft, NoProxy: true, RawStorage: true, DataDir: dataDir, ProviderSockets: sockets,
	}), sockets
}

// providerFaults strike a Vault of one node while key providers are in trouble. In the last of
// them nothing else happens, for longer than a lease.
func providerFaults(p *chaosProviders, short bool) []fault {
	faults := []fault{
		{name: "plugin-sigkill", latest: 80, providers: p, strike: func(_ context.Context, a *arena) error {
			return a.nodes[0].KillPlugin()
		}},
	}
	if short {
		faults[0].lasts, faults[0].briefly = time.Second, true
	} else {
		faults = append(faults,
			fault{name: "vault-sigkill", latest: 80, providers: p, strike: killVault, restore: restartVault},
			fault{
				name: "lease", latest: 5, lasts: 4 * time.Second, providers: p, atRenewal: true,
				strike: func(context.Context, *arena) error {
					pass(providerLease + time.Second)
					return nil
				},
			})
	}
	return faults
}

// providerPlan is what happens to key providers and KEKs in a round.
type providerPlan struct {
	troubles map[string]trouble
	early    time.Duration // from the beginning of the trouble to the blow
	lasts    time.Duration // from when Vault has recovered to the end of the trouble
	seed     uint64        // of what the troubles do
	moves    []kekMove
}

// kekMove is a move of keys to another KEK.
type kekMove struct {
	of   int    // a neighbour, or one of the two below
	to   string // the provider; empty: Vault's storage, or the mount's KEK
	late bool   // it is asked for while the providers are in trouble
}

const (
	mountsKEK  = -1
	tenantsKEK = -2 // of the tenant that the rotation is of
)

// newProviderPlan draws a plan. At least one provider is in trouble, and the KEKs of the mount and
// of the tenant move in two rounds of three.
func newProviderPlan(rng *rand.Rand) providerPlan {
	p := providerPlan{
		troubles: map[string]trouble{}, early: millis(rng, 50), lasts: millis(rng, 2500), seed: rng.Uint64(),
	}
	for _, name := range []string{transitProvider, kmsProvider} {
		p.troubles[name] = troubles[rng.IntN(len(troubles))]
	}
	if n := rng.IntN(5); n < 2 {
		p.troubles[[]string{transitProvider, kmsProvider}[n]] = works
	}
	places := []string{"", transitProvider, kmsProvider}
	if rng.IntN(3) > 0 {
		// Elsewhere its rotation would be due again, and run after the round's.
		p.moves = append(p.moves, kekMove{tenantsKEK, transitProvider, rng.IntN(4) == 0})
	}
	for _, n := range rng.Perm(12)[:3] {
		p.moves = append(p.moves, kekMove{n, places[rng.IntN(3)], rng.IntN(3) == 0})
	}
	// Last, so that the blow meets it: it takes the longest.
	if rng.IntN(3) > 0 {
		p.moves = append(p.moves, kekMove{mountsKEK, places[rng.IntN(3)], rng.IntN(4) == 0})
	}
	return p
}

// atRenewal has the trouble begin with the rotation, the tenant's provider refuse a renewal,
// and the KEK that it is of stay.
func (p *plan) atRenewal() {
	p.percent = min(p.percent, 5)
	if how := p.providers.troubles[transitProvider]; how == works || how == delays || how == flaps {
		p.providers.troubles[transitProvider] = steady[2+p.seed%3]
	}
	for i, m := range p.providers.moves {
		p.providers.moves[i].late = m.late || m.of == tenantsKEK
	}
}

// awaitRenewal waits until the lease of the tenant's KEK is soon renewed. That is done when
// one to three tenths of it are left.
func (r *round) awaitRenewal() error {
	err := until(2*providerLease, func() bool {
		text, _ := r.c.a.ask(http.MethodGet, r.c.path("kek"), nil).body.Data["lease_until"].(string)
		end, err := time.Parse(time.RFC3339, text)
		left := time.Until(end)
		return err == nil && left > providerLease*3/10 && left < providerLease*4/10
	})
	if err != nil {
		return fmt.Errorf("the lease of the tenant's KEK does not come near its renewal: %w", err)
	}
	return nil
}

func (p providerPlan) String() string {
	return fmt.Sprintf("transit %s, kms %s, moves %v", p.troubles[transitProvider], p.troubles[kmsProvider], p.moves)
}

// kekPath is the path of what a move is of.
func (r *round) kekPath(m kekMove) string {
	switch m.of {
	case mountsKEK:
		return "dek/kek"
	case tenantsKEK:
		return r.c.path("kek")
	}
	return tenantPath(r.fault.providers.neighbours.ids[m.of], "kek")
}

// moveKEK asks for a move. Asked again it is found by its key.
func (r *round) moveKEK(m kekMove) reply {
	return r.c.a.ask(http.MethodPut, r.kekPath(m)+"/rotate", map[string]any{
		"provider": m.to, "reason": "chaos", "idempotency_key": fmt.Sprint(r.key, m.of),
	})
}

// moveKEKs asks for the moves that begin while all is well, and returns those that do not.
func (r *round) moveKEKs() (late []kekMove, err error) {
	if r.fault.providers == nil {
		return nil, nil
	}
	for _, m := range r.plan.providers.moves {
		if m.late {
			late = append(late, m)
		} else if got := r.moveKEK(m); !got.ok() {
			return nil, fmt.Errorf("the move %v was answered %s", m, got)
		}
	}
	return late, nil
}

// trouble begins the trouble of the key providers.
func (r *round) trouble() {
	if r.fault.providers == nil {
		return
	}
	p := r.plan.providers
	r.c.a.denied.Store(slices.Contains([]trouble{denies, flaps}, p.troubles[transitProvider]))
	for name, g := range r.fault.providers.gates {
		g.set(p.troubles[name], p.seed)
	}
	pass(p.early)
}

// endTrouble lets the trouble go on, and then ends it, and waits until all moves have ended
// and the tenants' keys open.
func (r *round) endTrouble(ctx context.Context, late []kekMove) error {
	if r.fault.providers == nil {
		return nil
	}
	a := r.c.a
	for _, m := range r.plan.providers.moves {
		if a.ask(http.MethodGet, r.kekPath(m), nil).body.Data["status"] == "in_progress" {
			r.moving++
		}
	}
	r.watchBystander(late)
	r.checkClosed()
	for _, g := range r.fault.providers.gates {
		g.set(works, 0)
	}
	healed := time.Now()
	for _, m := range late {
		var last reply
		if err := until(recoveryLimit, func() bool { last = r.moveKEK(m); return last.ok() }); err != nil {
			return fmt.Errorf("%w: the move %v is answered %s: %w", errStuck, m, last, err)
		}
	}
	for _, m := range r.plan.providers.moves {
		if err := r.untilMoved(m); err != nil {
			return err
		}
	}
	for _, path := range r.proofs() {
		var last reply
		err := until(recoveryLimit, func() bool {
			last = a.askNode(ctx, a.nodes[0], path.method, path.path, path.body)
			return last.ok()
		})
		if err != nil {
			return fmt.Errorf("%w: %s is answered %s: %w", errStuck, path.path, last, err)
		}
	}
	r.recovery = time.Since(healed)
	a.denied.Store(false)
	return nil
}
