// Copyright (c) The vault-plugin-dek authors
// SPDX-License-Identifier: MPL-2.0

//go:build acceptance

package acceptance

import (
	"cmp"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/vault-plugin-dek/vault-plugin-dek/internal/devstack"
)

// TestChaos strikes Vault and the plugin at random moments of rotations, while
// clients read and write, in some kinds with key providers in trouble, and shows
// that nothing acknowledged is lost and nothing stays half-rotated: docs/chaos.md.
// CHAOS_ROUNDS is how many rounds of each kind of fault must hit an unfinished
// rotation (1), CHAOS_SEED the seed of the first (the time), CHAOS_DIR where data
// and logs are kept (nowhere).
func TestChaos(t *testing.T) {
	settings := chaosSettings(t)
	settings.dek = buildDek(t)
	var total tally
	t.Run("node", func(t *testing.T) {
		s := start(t, devstack.Options{
			Storage: devstack.Raft, NoProxy: true, RawStorage: true, DataDir: settings.dataDir("node"),
		})
		a := newArena([]*devstack.Stack{s}, nil)
		for _, f := range nodeFaults(settings.short) {
			t.Run(f.name, func(t *testing.T) { total.add(settings.rounds(t, a, f)) })
		}
	})
	t.Run("cluster", func(t *testing.T) {
		c, err := devstack.StartCluster(t.Context(), 3, devstack.Options{RawStorage: true, DataDir: settings.dataDir("cluster")})
		require.NoError(t, err)
		t.Cleanup(func() { require.NoError(t, c.Stop()) })
		a := newArena(c.Nodes(), c)
		for _, f := range clusterFaults() {
			t.Run(f.name, func(t *testing.T) { total.add(settings.rounds(t, a, f)) })
		}
	})
	t.Run("provider", func(t *testing.T) {
		s, sockets := providerStack(t, settings.dataDir("provider"))
		a := newArena([]*devstack.Stack{s}, nil)
		for _, f := range providerFaults(newChaosProviders(t, a, sockets), settings.short) {
			t.Run(f.name, func(t *testing.T) { total.add(settings.rounds(t, a, f)) })
		}
	})
	total.print("total")
}

// tally counts what a kind of fault, or all, came to.
type tally struct {
	rounds, hits, items int
	acknowledged        int64
	longest             time.Duration
	firstSeed, lastSeed uint64
	lost, stuck, other  int
}

func (sum *tally) add(one tally) {
	sum.rounds += one.rounds
	sum.hits += one.hits
	sum.items += one.items
	sum.acknowledged += one.acknowledged
	sum.longest = max(sum.longest, one.longest)
	sum.lost += one.lost
	sum.stuck += one.stuck
	sum.other += one.other
}

// print writes a line for people and scripts. lost counts what was resurrected,
// too.
func (sum *tally) print(name string) {
	seeds := ""
	if sum.firstSeed != 0 {
		seeds = fmt.Sprintf(" seeds=%d..%d", sum.firstSeed, sum.lastSeed)
	}
	fmt.Printf("chaos: %-22s rounds=%d hits=%d items=%d writes=%d recovery_max=%s%s lost=%d stuck=%d other=%d\n",
		name, sum.rounds, sum.hits, sum.items, sum.acknowledged, sum.longest.Round(time.Millisecond), seeds,
		sum.lost, sum.stuck, sum.other)
}

type chaosRun struct {
	short bool
	hits  int
	seed  uint64
	dir   string
	dek   dekProgram // verifies the evidence log
}

func chaosSettings(t *testing.T) chaosRun {
	t.Helper()
	run := chaosRun{short: true, hits: 1, seed: uint64(time.Now().Unix()), dir: os.Getenv("CHAOS_DIR")}
	var err error
	if text := os.Getenv("CHAOS_ROUNDS"); text != "" {
		run.short = false
		run.hits, err = strconv.Atoi(text)
		require.NoError(t, err, "CHAOS_ROUNDS")
	}
	if text := os.Getenv("CHAOS_SEED"); text != "" {
		run.seed, err = strconv.ParseUint(text, 10, 64)
		require.NoError(t, err, "CHAOS_SEED")
	}
	return run
}

// dataDir is a directory for a Vault that outlives the test, if one was named.
func (run chaosRun) dataDir(name string) string {
	if run.dir == "" {
		return ""
	}
	return filepath.Join(run.dir, fmt.Sprintf("%s-%d", name, run.seed))
}

// rounds has a fault strike as many rotations of a new tenant as were asked for.
// A round that did not hit is checked like any other, but another takes its
// place.
func (run chaosRun) rounds(t *testing.T, a *arena, f fault) (sum tally) {
	var mu sync.Mutex
	seed := run.seed
	kind := t.Name()[len("TestChaos/"):]
	report := func(w wrong, format string, args ...any) {
		mu.Lock()
		defer mu.Unlock()
		if w == lost || w == resurrected {
			sum.lost++
		} else {
			sum.other++
		}
		if n := sum.lost + sum.other; n <= 20 {
			t.Errorf("%s, seed %d: %s: %s", kind, seed, w, fmt.Sprintf(format, args...))
		}
	}
	a.quiesced.Store(0) // an earlier kind may have broken off while Vault was down
	c := newClients(t, a, report)
	t.Logf("%d items, a rotation of which lasts %s", c.items, c.last(t, seed, cmp.Or(f.lasts, 1500*time.Millisecond)).Round(time.Millisecond))
	evidence := newAudit(t, c, run.dek)
	sum.firstSeed = seed
	for ; sum.hits < run.hits && sum.rounds < 3*run.hits+20; seed++ {
		r := &round{plan: newPlan(kind, seed, f.latest), fault: f, c: c}
		if f.atRenewal {
			r.plan.atRenewal()
		}
		if f.briefly {
			r.plan.providers.lasts /= 5
		}
		logged := a.logSizes()
		err := r.run(t.Context())
		sum.rounds++
		sum.lastSeed = seed
		sum.longest = max(sum.longest, r.recovery)
		if err == nil {
			sum.items += c.check(r)
			c.checkEvidence(evidence, r)
		} else {
			if errors.Is(err, errStuck) {
				sum.stuck++
			} else {
				sum.other++
			}
			t.Errorf("%s, seed %d: %v", kind, seed, err)
		}
		if r.hit {
			sum.hits++
		}
		t.Logf("%s", r)
		if t.Failed() {
			t.Logf("tenant %s, incarnation %s\nthe rotation: %v\nthe versions: %v",
				c.tenant, c.incarnation, r.ended, a.ask(http.MethodGet, c.path("dek"), nil).body.Data)
			for i, node := range a.nodes {
				t.Logf("the log of %s since the round began:\n%s", node.VaultAddr(), logSince(node, logged[i]))
			}
			break
		}
	}
	sum.acknowledged = c.acknowledged.Load()
	sum.print(kind)
	if !t.Failed() && sum.hits < run.hits {
		t.Errorf("only %d of %d rounds hit an unfinished rotation", sum.hits, sum.rounds)
	}
	return sum
}
