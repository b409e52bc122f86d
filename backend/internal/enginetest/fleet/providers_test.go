// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

package fleet

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/enginetest"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/provider/providertest"
	"github.com/vault-plugin-dek/vault-plugin-dek/backend/internal/storagetest"
)

// owners are the transit engines of many owners, told apart by the address. A call to one
// takes its time.
type owners struct {
	transit *providertest.Transit

	mu     sync.Mutex
	takes  time.Duration
	hangs  string                 // the host that does not answer
	opened map[string][]time.Time // by ciphertext: when it was to be opened
}

func newOwners() *owners {
	return &owners{transit: providertest.NewTransit(), opened: map[string][]time.Time{}}
}

// set changes how the owners answer, and forgets what they were asked.
func (o *owners) set(takes time.Duration, hangs string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.takes, o.hangs = takes, hangs
	clear(o.opened)
}

// RoundTrip answers a call.
func (o *owners) RoundTrip(req *http.Request) (*http.Response, error) {
	body, err := io.ReadAll(req.Body)
	if err != nil {
		return nil, err
	}
	req.Body = io.NopCloser(bytes.NewReader(body))
	o.mu.Lock()
	takes, hangs := o.takes, o.hangs == req.URL.Host
	if strings.Contains(req.URL.Path, "/decrypt/") {
		var asked struct {
			Ciphertext string `json:"ciphertext"`
		}
		if err := json.Unmarshal(body, &asked); err != nil {
			o.mu.Unlock()
			return nil, err
		}
		o.opened[asked.Ciphertext] = append(o.opened[asked.Ciphertext], time.Now())
	}
	o.mu.Unlock()
	var answer <-chan time.Time
	if !hangs {
		answer = time.After(takes)
	}
	select {
	case <-answer:
		return o.transit.RoundTrip(req)
	case <-req.Context().Done():
		return nil, req.Context().Err()
	}
}

// calls returns how many KEKs were to be opened, and the shortest time between two calls
// for the same one, zero if there were none.
func (o *owners) calls() (keks int, shortest time.Duration) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, at := range o.opened {
		for i := range at[1:] {
			if gap := at[i+1].Sub(at[i]); shortest == 0 || gap < shortest {
				shortest = max(gap, 1)
			}
		}
	}
	return len(o.opened), shortest
}

// provided is a mount whose tenants have KEKs of their own under several providers, after a
// restart.
type provided struct {
	*enginetest.Mount
	owners *owners
}

func ownerN(n int) string { return fmt.Sprint("owner-", n) }

func withOwners(t *testing.T, tenants, providers int, f func(p *provided)) {
	synctest.Test(t, func(t *testing.T) {
		o := newOwners()
		conditions := enginetest.Conditions{Transport: o}
		m := conditions.Open(t, storagetest.NewDisk(), 0, storagetest.None)
		m.Start()
		m.Must(enginetest.Update, "config", map[string]any{"max_concurrent_rotations": 1000, "scheduler_jitter": 0})
		for n := range providers {
			m.Must(enginetest.Update, "providers/"+ownerN(n), enginetest.ProviderBody(map[string]any{
				"parameters": map[string]any{"address": "https://" + ownerN(n), "token": providertest.Token, "key_name": "dek"},
			}))
		}
		for n := range tenants {
			m.Must(enginetest.Update, "tenants/"+enginetest.TenantN(n), map[string]any{"key_provider": ownerN(n % providers)})
			m.Must(enginetest.Update, "tenants/"+enginetest.TenantN(n)+"/secrets/a", enginetest.Secret("1"))
		}
		m.Close()
		m = conditions.Open(t, m.Disk, 0, storagetest.None)
		m.Start()
		defer m.Close()
		enginetest.Advance(time.Minute) // what is read at a start is read
		f(&provided{m, o})
	})
}

// read reads the item of a tenant, and returns how long that took.
func (p *provided) read(n int) time.Duration {
	began := time.Now()
	_, err := p.Call(enginetest.Read, "tenants/"+enginetest.TenantN(n)+"/secrets/a", nil)
	assert.NoError(p.T, err)
	return time.Since(began)
}

// untilRotated waits until a rotation of each of some tenants has completed.
func (p *provided) untilRotated(from, to int) {
	p.T.Helper()
	for n := from; n < to; n++ {
		for ticks := 0; ; ticks++ {
			rotations := p.RotationsOf(enginetest.TenantN(n))
			if len(rotations) > 0 && rotations[0]["status"] == "completed" {
				break
			}
			require.Less(p.T, ticks, 120, "tenant %d: %v", n, rotations)
			p.Tick()
		}
	}
}

// providedTenants is how many tenants the fleet has: FLEET_TENANTS, 1,000 without it.
func providedTenants(t *testing.T) int {
	t.Helper()
	text := os.Getenv("FLEET_TENANTS")
	if text == "" {
		return 1000
	}
	n, err := strconv.Atoi(text)
	require.NoError(t, err, "FLEET_TENANTS")
	return n
}

// TestFleetOfProvidersAfterARestart has every tenant read several times at once after a
// restart, while all are rotated, and for some leases more. A provider is asked once for a
// KEK and lease.
func TestFleetOfProvidersAfterARestart(t *testing.T) {
	tenants, providers := providedTenants(t), 100
	if enginetest.UnderRace {
		tenants, providers = 200, 10
	}
	withOwners(t, tenants, providers, func(p *provided) {
		p.owners.set(10*time.Millisecond, "")
		p.Must(enginetest.Update, "rotations", map[string]any{"all": true})
		// Readers that come at once take different providers: one takes 32 calls at a time.
		const readers = 50
		for first := range 3 {
			var wg sync.WaitGroup
			for r := range readers {
				wg.Go(func() {
					for n := (r*7 + first) % readers; n < tenants; n += readers {
						p.read(n)
					}
				})
			}
			wg.Wait()
		}
		keks, shortest := p.owners.calls()
		require.Equal(t, tenants, keks)
		require.Zero(t, shortest, "one call for each")

		// Some tenants stay in use, for five leases.
		p.owners.set(10*time.Millisecond, "")
		const used = 100
		for range 5 * 12 {
			for n := range used {
				p.read(n)
			}
			enginetest.Advance(enginetest.ProviderLease / 12)
		}
		keks, shortest = p.owners.calls()
		require.Equal(t, used, keks, "what nobody uses is not opened anew")
		require.GreaterOrEqual(t, shortest, enginetest.ProviderLease*7/10)
	})
}

// TestRequestsBesideBackgroundWork has a slow provider, and all of its tenants rotated after a
// restart, four at a time. A request waits for its own call, and no longer.
func TestRequestsBesideBackgroundWork(t *testing.T) {
	const tenants, call = 60, time.Second
	withOwners(t, tenants, 1, func(p *provided) {
		p.owners.set(call, "")
		began := time.Now()
		p.Must(enginetest.Update, "rotations", map[string]any{"all": true})
		enginetest.Advance(call / 2)
		for n := tenants - 1; time.Since(began) < 10*call; n-- {
			require.LessOrEqual(t, p.read(n), call, "tenant %d", n)
			keks, _ := p.owners.calls()
			require.Less(t, keks, tenants, "background work goes on")
		}
		p.untilRotated(0, tenants)
		_, shortest := p.owners.calls()
		require.True(t, shortest == 0 || shortest >= enginetest.ProviderLease*7/10, "%s", shortest)
	})
}

// TestProviderThatHangs has one tenant's provider not answer. That tenant's requests end with
// the provider's timeout, and nobody else's wait at all: reads, writes, rotations, and the
// mount's own.
func TestProviderThatHangs(t *testing.T) {
	const tenants = 20
	withOwners(t, tenants, tenants, func(p *provided) {
		for n := range tenants {
			p.read(n)
		}
		p.owners.set(0, ownerN(0))
		enginetest.Advance(enginetest.ProviderLease + time.Second)
		p.Must(enginetest.Update, "rotations", map[string]any{"all": true})
		var stuck sync.WaitGroup
		ended := make(chan struct{})
		for range 10 {
			stuck.Go(func() {
				for {
					began := time.Now()
					resp, err := p.Call(enginetest.Read, "tenants/"+enginetest.TenantN(0)+"/secrets/a", nil)
					assert.Equal(p.T, 503, enginetest.Code(resp, err))
					assert.LessOrEqual(p.T, time.Since(began), 3*time.Second)
					select {
					case <-ended:
						return
					case <-time.After(time.Second):
					}
				}
			})
		}
		for range 60 {
			enginetest.Advance(time.Second)
			began := time.Now()
			for n := 1; n < tenants; n++ {
				p.read(n)
				p.Must(enginetest.Update, "tenants/"+enginetest.TenantN(n)+"/secrets/a", enginetest.Secret("2"))
			}
			p.Must(enginetest.Read, "status", nil)
			require.Zero(t, time.Since(began))
		}
		close(ended)
		stuck.Wait()
		p.untilRotated(1, tenants)
		p.owners.set(0, "")
		enginetest.Advance(11 * time.Second)
		p.read(0)
		p.untilRotated(0, 1)
	})
}
